"""One module for each command: it starts runners and reads what they measure. Needs no torch."""
