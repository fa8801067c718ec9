"""Recommends a strategy for a workload, from runs of all candidates or from earlier records. Needs no torch itself."""
