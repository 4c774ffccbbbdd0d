"""Where a run goes: TPU slices, clusters and this machine, and what one will need there."""
