"""The process that measures, and everything that runs in it. Needs torch."""
