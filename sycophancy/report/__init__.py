"""Self-contained html pages: `run` writes the page of one run, `study` that of a sweep."""

PAGE = "report.html"  # the name of a page in the folder of its run or sweep
