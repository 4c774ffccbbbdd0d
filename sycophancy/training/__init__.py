"""Finetuning: the in-tree trainer, and T5X as another one."""
