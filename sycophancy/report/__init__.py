"""Self-contained html pages: `run` writes the page of one run, `study` that of a sweep."""
