"""The attention blocks of the papers."""
