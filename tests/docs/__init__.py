"""What the documents say is held against what is: every code block runs, every page builds without a warning."""
