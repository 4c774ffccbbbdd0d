"""Runs stages: staleness, run folders, processes, progress. Knows no stage."""
