"""Published sets of questions with and without pressure from a user; see docs/evaluation_sets.md.

They are measured beside the paper's own tasks, and nothing is trained on them.
"""
