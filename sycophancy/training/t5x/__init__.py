"""The real T5X as a trainer."""
