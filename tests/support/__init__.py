"""Sample records, scripted workers and blocks that several tests use."""
