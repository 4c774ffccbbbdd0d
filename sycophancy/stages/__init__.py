"""What a run does: one stage a file; `order` lists them."""
