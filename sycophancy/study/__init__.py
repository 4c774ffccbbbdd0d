"""Many runs, one answer: sweeps, the experiments of the paper, and verdicts."""
