"""The items of a run with the answers of its models, for reading one by one."""
