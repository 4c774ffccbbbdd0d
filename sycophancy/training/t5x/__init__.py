"""Real T5X as the trainer."""
