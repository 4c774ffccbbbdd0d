"""Tables and a page that set evaluations of several runs side by side."""
