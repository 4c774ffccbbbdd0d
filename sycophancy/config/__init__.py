"""Settings: their declarations, gin files, and the typed configuration of a run."""
