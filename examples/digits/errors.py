"""The example's own errors."""

from __future__ import annotations


class ExampleError(Exception):
    """An error with a one-line message for the user; the example exits with `exit_code`."""

    exit_code = 2


class OffNaiveError(ExampleError):
    """An exact strategy does not learn what the plain block learns."""

    exit_code = 1
