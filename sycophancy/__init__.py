"""Finetune language models so that they stop telling users what they want to hear."""

__version__ = "0.1.0"
