"""The parts of `classify_digits.py`: the device, what is trained, the table and the plot."""
