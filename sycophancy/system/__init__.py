"""Files, locks, the terminal, the home folder and the compile cache of this machine."""
