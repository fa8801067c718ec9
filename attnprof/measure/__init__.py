"""Measuring cases: the command's side here, and everything that needs torch in `worker`, a process of its own."""
