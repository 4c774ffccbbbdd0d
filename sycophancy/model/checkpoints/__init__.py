"""Checkpoints of every format; docs/checkpoints.md describes them."""
