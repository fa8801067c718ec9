"""Which variant to use for a workload: from runs of all candidates or from records. Needs no torch itself."""
