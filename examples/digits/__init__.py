"""The parts of `classify_digits.py`: what is trained, what is said of it, and the plot."""
