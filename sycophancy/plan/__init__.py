"""Does a run fit a slice, and how long will it take there? Asked of the real compiler."""
