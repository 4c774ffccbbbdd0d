"""What a run does, one stage a file."""
