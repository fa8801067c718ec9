"""The errors of the command line's own grammar, in the form of all the others: option, value, and what to do."""

from __future__ import annotations

import difflib
import re
from typing import Any

from attnprof.text import shortened, shown

_LONGEST_NAME = 60


def usage_message(error: Any) -> str:
    """Return one line for a usage error of typer, or of click, whose classes older versions of typer raise.

    Args:
        error: a `UsageError`. The kinds are told by name, since typer does not export them.
    """
    command = error.ctx.command_path if error.ctx else "attnprof"
    make = _BY_KIND.get(type(error).__name__, _of_words)
    return make(error, command)


def _no_such_option(error: Any, command: str) -> str:
    names = [name for parameter in error.ctx.command.params for name in parameter.opts] if error.ctx else []
    near = error.possibilities or _near(error.option_name, names)
    return f"{shown(error.option_name)} is not an option: {_advice(near, command)}"


def _bad_use(error: Any, command: str) -> str:
    what = "takes no value; leave it out" if "does not take" in error.message else "its value is missing; write one"
    return f"{_bare(error.option_name)}: {what}, or see {command} --help"


def _missing(error: Any, command: str) -> str:
    name = error.param.opts[0]
    shown_name = _bare(name) if name.startswith("-") else error.param.metavar or name.upper()
    return f"{shown_name}: it is missing; see {command} --help"


def _bad_value(error: Any, command: str) -> str:
    name = _bare(error.param.opts[0]) if error.param is not None else "a value"
    return f"{name}: {shortened(error.message)}; see {command} --help"


def _of_words(error: Any, command: str) -> str:
    """Return the line for an error whose parts stand in its words alone."""
    message = error.format_message()
    unknown = re.match(r"No such command ['\"](.*?)['\"]\.", message, re.DOTALL)
    extra = re.match(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", message, re.DOTALL)
    if unknown:
        near = _near(unknown[1], list(getattr(error.ctx.command, "commands", {})))
        return f"{shown(unknown[1])} is not a command: {_advice(near, command)}"
    if extra:
        return f"{shown(extra[1])}: {command} takes no such argument; options begin with --"
    return f"{shortened(message)} See {command} --help"


_BY_KIND = {
    "NoSuchOption": _no_such_option,
    "BadOptionUsage": _bad_use,
    "MissingParameter": _missing,
    "BadParameter": _bad_value,
}


def _near(name: str, known: list[str]) -> list[str]:
    return difflib.get_close_matches(name[:_LONGEST_NAME], known, n=2)


def _advice(near: list[str], command: str) -> str:
    return f"did you mean {' or '.join(sorted(near))}? " * bool(near) + f"{command} --help lists them"


def _bare(name: str) -> str:
    """Return the name of an option without its dashes, as every error begins."""
    return name.lstrip("-").lower()
