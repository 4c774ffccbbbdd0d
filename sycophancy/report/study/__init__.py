"""The page of a sweep: the results of its runs, and whether they agree with the paper."""
