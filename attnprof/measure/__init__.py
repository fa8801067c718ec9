"""Measuring cases: `runner` in the command's process, everything else in the worker's."""
