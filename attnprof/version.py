"""The version of attnprof."""

__version__ = "0.1.0"
