"""The LM evaluation harness on this project's models: an adapter, and the tasks of retention."""
