"""Writes the reference pages from the code: the commands, the columns of their CSV, the fields of a record."""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Union, get_args, get_origin, get_type_hints

from typer.main import get_command

from attnprof.cases import record
from attnprof.cases.record import SCHEMA, Record
from attnprof.cli.app import app


def cli_reference() -> str:
    """Return a section for each command, from the app's own help."""
    root = get_command(app)
    commands: Mapping[str, Any] = root.commands  # type: ignore[attr-defined]
    return "\n".join(_command(name, command) for name, command in _leaves(commands))


def _leaves(commands: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the commands with their whole names; the commands of a group stand in its place."""
    for name, command in commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command.commands, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and not getattr(p, "hidden", False)]
    usage = " ".join(["attnprof", name, "[OPTIONS]", *map(_metavar, arguments)])
    lines = [f"## {name}", "", _prose(command.help), "", "```", usage, "```", ""]
    if arguments:
        lines += ["| argument | |", "|---|---|"]
        lines += [f"| `{_metavar(p)}` | {_cell(p.help)} |" for p in arguments] + [""]
    for panel, members in _panels(options):
        lines += [f"**{panel}**", ""] if panel else []
        lines += ["| option | default | |", "|---|---|---|"]
        lines += [f"| {_spellings(p)} | {_default(p)} | {_cell(p.help)} |" for p in members] + [""]
    if command.epilog:
        lines += [_prose(command.epilog), ""]
    return "\n".join(lines)


def _metavar(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.nargs == 1 else f"{name}..."


def _panels(options: Iterable[Any]) -> Iterator[tuple[str, list[Any]]]:
    panels: dict[str, list[Any]] = {}
    for option in options:
        panels.setdefault(getattr(option, "rich_help_panel", None) or "", []).append(option)
    yield from panels.items()


def _spellings(option: Any) -> str:
    names = [*option.opts, *option.secondary_opts]
    return "<br>".join(f"`{name}`" for name in names)


def _default(option: Any) -> str:
    shown = option.show_default
    if isinstance(shown, str):
        return _cell(shown)
    if option.required:
        return "required"
    default = option.default() if callable(option.default) else option.default
    if default in (None, [], (), "") or default is False or type(default).__name__ == "Sentinel":
        return ""
    if isinstance(default, bool):
        return "on"
    values = default if isinstance(default, (list, tuple)) else [default]
    return "<br>".join(f"`{part}`" for value in values for part in str(value).split(","))


def _prose(text: str | None) -> str:
    """Return help text as Markdown; lines that are commands become a block of code."""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc((text or "").replace("\b", "").replace("\f", "")))
    shown = []
    for paragraph in filter(str.strip, paragraphs):
        lines = [line.strip().replace("[bold]", "").replace("[/bold]", "") for line in paragraph.splitlines()]
        commands = [line.removeprefix("$ ") for line in lines if re.match(r"(\$ )?attnprof ", line)]
        words = [line for line in lines if not re.match(r"(\$ )?attnprof ", line)]
        shown += [" ".join(words)] if words else []
        shown += ["```sh\n" + "\n".join(commands) + "\n```"] if commands else []
    return "\n\n".join(shown)


def _cell(text: object) -> str:
    return " ".join(str(text or "").split()).replace("|", "\\|").replace("<", "&lt;")


def column_tables() -> str:
    """Return a table for each command that writes CSV: its columns in their order."""
    from attnprof.report.fields import FIELDS

    lines: list[str] = []
    for command, fields in FIELDS.items():
        lines += [f"### attnprof {command}", "", "| column | |", "|---|---|"]
        lines += [f"| `{field.name}` | {_cell(field.description)} |" for field in fields] + [""]
    return "\n".join(lines)


def record_fields() -> str:
    """Return the fields of a line of a record file, from the dataclasses that are written to it."""
    lines = ["| field | type | |", "|---|---|---|"]
    lines += [f"| `schema` | integer | The version of this form: {SCHEMA}. |"]
    # A block and a model share the first fields of a case; each is listed once.
    fields = {path: (kind, text) for path, kind, text in reversed([*_fields(Record, "")])}
    lines += [
        f"| `{path}` | {_cell(kind)} | {_cell(_in_json(text))} |" for path, (kind, text) in reversed(fields.items())
    ]
    return "\n".join(lines)


def _in_json(text: str) -> str:
    """Return a description with JSON's word for Python's None."""
    return re.sub(r"\bNone\b", "null", text)


def schema_versions() -> str:
    """Return the history of the schema, from the docstring that keeps it."""
    history = (record.__doc__ or "").partition("Schema versions:\n")[2]
    versions = re.findall(r"^ +(\d+): (.*(?:\n {8,}.*)*)", history, re.MULTILINE)
    return "\n".join(["| schema | |", "|---|---|", *(f"| {number} | {_cell(text)} |" for number, text in versions)])


def _fields(kind: Any, prefix: str) -> Iterator[tuple[str, str, str]]:
    described = dict(_attributes(kind))
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        path, hint = prefix + field.name, hints[field.name]
        inner = [one for one in _members(hint) if dataclasses.is_dataclass(one)]
        # The workload's fields stand beside the strategy in `case`.
        beneath = prefix if field.name == "workload" else f"{path}."
        if not inner:
            yield path, _type_text(hint), described.get(field.name, "")
        for one in inner:
            if beneath != prefix:
                yield path, _type_text(hint), _summary(one)
            for form in (one, *one.__subclasses__()):
                yield from _fields(form, beneath)


def _members(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)


_JSON_NAMES = {"str": "string", "int": "integer", "float": "number", "bool": "boolean", "NoneType": "null"}


def _type_text(hint: Any) -> str:
    """Return the JSON type of a field, from its annotation."""
    return " or ".join(_one_type_text(one) for one in _members(hint))


def _one_type_text(kind: Any) -> str:
    arguments = get_args(kind)
    if get_origin(kind) is tuple:
        return f"array of {_type_text(arguments[0])}"
    if arguments or dataclasses.is_dataclass(kind):
        return "object"
    if issubclass(kind, Enum):
        return " or ".join(f'"{member.value}"' for member in kind)
    return _JSON_NAMES[kind.__name__]


def _attributes(kind: type) -> Iterator[tuple[str, str]]:
    """Yield each attribute that the docstring describes; several names may share a description."""
    described = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
    for names, text in re.findall(r"^ {4}([\w, ]+): (.*(?:\n {8,}.*)*)", described, re.MULTILINE):
        for name in names.split(","):
            yield name.strip(), text[:1].upper() + text[1:]


def _summary(kind: type) -> str:
    return inspect.cleandoc(kind.__doc__ or "").split("\n\n")[0]
