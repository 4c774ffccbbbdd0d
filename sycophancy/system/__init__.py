"""Files, locks, the terminal and the home folder: what every layer uses of the machine."""
