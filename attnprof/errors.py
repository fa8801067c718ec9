"""Errors that the user can do something about, as opposed to faults of attnprof."""


class AttnprofError(Exception):
    """An error with a one-line message for the user: what happened, with which value, and what to do.

    The command line prints it without a traceback and exits with `exit_code`.
    """

    exit_code = 2


class WorkerError(AttnprofError):
    """An error of the measuring process: it cannot be started, or cannot serve the request."""

    exit_code = 1
