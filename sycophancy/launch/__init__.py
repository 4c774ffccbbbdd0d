"""Scripts that start runs elsewhere: on TPU slices, under SLURM, by SkyPilot, or here."""
