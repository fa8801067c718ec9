"""The orders in which cuDNN's plans win when PyTorch compares them by time (`torch.backends.cudnn.benchmark`)."""

from __future__ import annotations

FIRST, LEAST, LARGEST = "first", "least", "largest"
ORDERS = (FIRST, LEAST, LARGEST)
"""That of cuDNN's heuristics; by the workspace, from the least on; by the workspace, from the largest on."""
RANGE = "range"
VARIABLE = "ATTNPROF_CUDNN_PLANS"
"""The environment variable that sets the order, read by `native/cudnn_order.c`."""
