"""Does a run fit a slice, and how long does it take there? The TPU compiler answers."""
