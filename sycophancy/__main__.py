"""Runs the command line: `python -m sycophancy` is `sycophancy`."""

from sycophancy.cli.main import main

if __name__ == "__main__":
    main()
