"""The ways to compute attention, one file for each family."""
