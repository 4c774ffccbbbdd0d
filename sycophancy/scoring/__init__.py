"""Which choice a model finds likelier, and which claims it judges correctly."""
