"""The commands. The only place that prints results and exits."""
