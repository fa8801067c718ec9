"""The nouns: workloads, cases, plans, measurements, records, cards. Needs no torch and starts no processes."""
