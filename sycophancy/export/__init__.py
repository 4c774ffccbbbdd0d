"""Evaluation sets as tasks of other evaluation libraries."""
