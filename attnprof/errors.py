"""What a user did that cannot be carried out, as opposed to a fault of attnprof."""


class AttnprofError(Exception):
    """A one-line message for the user: what happened, with which value, and what to do.

    The command line prints it without a traceback and exits with `exit_code`.
    """

    exit_code = 2


class WorkerError(AttnprofError):
    """The measuring process could not be started or cannot serve the request."""

    exit_code = 1
