"""How each command finds its answer: it starts runners and reads what they measure. Needs no torch."""
