"""Pages that mkdocs generates from the code and from files outside of `docs`: see `hooks` in mkdocs.yml."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages and the project's own files to the site."""
    for path, text in {
        "reference/cli.md": _cli_page(),
        "reference/records.md": _records_page(),
        "results.md": _linked((ROOT / "results" / "README.md").read_text(encoding="utf-8")),
        "contributing.md": _linked((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")),
        "changelog.md": _linked((ROOT / "CHANGELOG.md").read_text(encoding="utf-8")),
    }.items():
        files.append(File.generated(config, path, content=text))
    return files


def _linked(text: str) -> str:
    """Turn links to files of the repository that are not on the site into plain code."""
    text = re.sub(r"\[([^\]]+)\]\((?!https?:|#)[^)]*\)", r"`\1`", text)
    return text.replace("``", "`")


def _cli_page() -> str:
    """Describe every command and option, read from the application itself."""
    import typer

    from attnprof.cli.app import app

    group: Any = typer.main.get_command(app)
    lines = [
        "# Command line",
        "",
        "`attnprof COMMAND --help` prints the same. Exit codes: 0 done, 1 measuring failed, ",
    ]
    lines[-1] += "2 bad input, 3 nothing fits (`recommend`), 130 interrupted; `run` ends with its program's own."
    for name, command in group.commands.items():
        lines += ["", f"## attnprof {name}", "", *_plain(command.help or ""), ""]
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
        lines += [
            f"- `{(one.metavar or one.name or '').upper()}`: {getattr(one, 'help', '') or ''}" for one in arguments
        ]
        if options:
            lines += ["", "| option | default | meaning |", "|---|---|---|"]
            lines += [f"| `{'`, `'.join(one.opts)}` | {_default(one)} | {_cell(one.help or '')} |" for one in options]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text.replace("\b", "").strip()):
        yield from (paragraph, "")


def _default(option: Any) -> str:
    shown = option.show_default if isinstance(option.show_default, str) else option.default
    if shown is None or shown == [] or shown is False or callable(shown):
        return ""
    return _cell(f"`{shown}`" if not isinstance(option.show_default, str) else shown)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _records_page() -> str:
    """Describe the record schema, read from the dataclasses and their docstrings."""
    from attnprof.cases import measurement, record
    from attnprof.report.rows import COLUMNS

    lines = ["# Records and columns", "", "`--out FILE` keeps one JSON line for each case. Bytes are integers."]
    lines += ["", "## Schema versions", "", "```text", _section(record.__doc__ or ""), "```"]
    for kind in (record.Record, measurement.Measurement, measurement.Memory, measurement.Latency,
                 measurement.Estimate, measurement.Exactness, measurement.Kernel):  # fmt: skip
        lines += ["", f"## {kind.__name__}", "", (kind.__doc__ or "").partition("\n")[0], ""]
        said = dict(_attributes(kind.__doc__ or ""))
        lines += ["| field | type | meaning |", "|---|---|---|"]
        lines += [
            f"| `{f.name}` | `{_cell(str(f.type))}` | {_cell(said.get(f.name, ''))} |" for f in dataclasses.fields(kind)
        ]
    lines += ["", "## Columns of `sweep --csv`", "", *(f"- `{name}`" for name in COLUMNS)]
    return "\n".join(lines) + "\n"


def _section(text: str) -> str:
    return text.partition("Schema versions:")[2].strip("\n")


def _attributes(text: str) -> Iterator[tuple[str, str]]:
    """Yield each attribute that a docstring's `Attributes:` section describes; names may share a line."""
    for names, said in re.findall(r"^ {8}([\w, ]+): ((?:.|\n {9,})+)", text, re.MULTILINE):
        for name in names.split(","):
            yield name.strip(), " ".join(said.split())
