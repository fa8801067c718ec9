"""`attnprof records`: what stands in the state folder, or in any other file of records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attnprof.cases.parsing import parse_days, parse_path
from attnprof.cli.options import Csv, Force, Format, examples
from attnprof.cli.outputs import require_apart, require_output, write_whole
from attnprof.cli.terminal import note, write, write_text
from attnprof.errors import AttnprofError
from attnprof.text import shown

records_app = typer.Typer(
    help="List, show, merge and remove the files of records.",
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples(
        "attnprof records list",
        "attnprof records show sweep.jsonl",
        "attnprof records merge a.jsonl b.jsonl --out both.jsonl",
        "attnprof records clean --days 30 --yes",
    ),
)


@records_app.callback(invoke_without_command=True)
def _root(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        write_text(f"{context.get_help()}\n")


Folder = Annotated[
    str | None, typer.Argument(metavar="FOLDER", help="A folder of record files.", show_default="your state folder")
]


@records_app.command("list", epilog=examples("attnprof records list", "attnprof records list results --format csv"))
def list_(folder: Folder = None, format: Format = "table") -> None:
    """List the files of records in your state folder, or in another one."""
    from attnprof.report.records import files_page
    from attnprof.studies.kept_records import kept_files

    require_output(format)
    place = _folder(folder)
    write(files_page(kept_files(place), str(place)), format)


@records_app.command(
    epilog=examples("attnprof records show sweep.jsonl", "attnprof records show sweep.jsonl --format csv")
)
def show(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file, or the name of one in your state folder.")],
    csv: Csv = None,
    force: Force = False,
    format: Format = "table",
) -> None:
    """Print the table of a file of records, as the command that measured it did. Nothing is run."""
    from attnprof.cases.record_lines import read_records
    from attnprof.report.model import model_page
    from attnprof.report.sweep import sweep_page
    from attnprof.studies.kept_records import file_named, is_of_models, model_profiles

    path = file_named(str(parse_path(file, "file")))
    output = require_output(format, csv, force=force, files={"file": path})
    found = read_records(path, "file")
    if not found:
        raise AttnprofError(f"file: {path} has no records; name another file")
    page = model_page(model_profiles(found)) if is_of_models(found) else sweep_page(found)
    write(page, format)
    if output.csv is not None:
        write_whole(output.csv, page.csv(), "csv")


@records_app.command(epilog=examples("attnprof records merge a.jsonl b.jsonl --out both.jsonl"))
def merge(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Files, or names of files in your state folder.")],
    out: Annotated[str, typer.Option(metavar="FILE", help="The new file.")],
) -> None:
    """Make one file of several, with one record for each case and device.

    Of two records of a case, one that settled it counts before one that crashed or timed out, then the newer one.
    Lines that cannot be read are left out, so that this also mends a damaged file.
    """
    from attnprof.studies.kept_records import file_named, write_merged
    from attnprof.studies.kept_records import merge as merged

    paths = [file_named(str(parse_path(file, "file"))) for file in files]
    target = parse_path(out, "out")
    require_apart({"out": target, **{f"file {number}": path for number, path in enumerate(paths, start=1)}})
    found = merged(paths)
    for line in found.left_out:
        note(line)
    if not found.records:
        raise AttnprofError(f"file: {', '.join(map(str, paths))}: there are no records; name other files")
    write_merged(found, target)
    note(f"records: {out} ({len(found.records)} cases)")


@records_app.command(epilog=examples("attnprof records clean --days 30", "attnprof records clean --days 0 --yes"))
def clean(
    folder: Folder = None,
    days: Annotated[str, typer.Option(metavar="N", help="Remove files that were not written for so many days.")] = "30",
    yes: Annotated[bool, typer.Option("--yes", help="Remove them. Without it they are listed only.")] = False,
) -> None:
    """Remove old files of records, and those without a record, from your state folder or from another one.

    A file that is being written, or that attnprof cannot read, stays.
    """
    from attnprof.report.records import files_page
    from attnprof.studies.kept_records import kept_files, removable

    place = _folder(folder)
    found = removable(kept_files(place), parse_days(days))
    write(files_page(found, str(place)), "table")
    if not found:
        return
    if not yes:
        note(f"{len(found)} to remove; add --yes to remove them")
        return
    for file in found:
        try:
            file.path.unlink(missing_ok=True)
        except OSError as error:
            raise AttnprofError(f"records: cannot remove {file.path}: {error.strerror}") from None
    note(f"{len(found)} removed")


def _folder(folder: str | None) -> Path:
    """Return the folder that was named, or the state folder.

    Raises:
        AttnprofError: what was named is not a folder.
    """
    from attnprof.cases.state_folder import state_folder

    if folder is None:
        return state_folder()
    place = parse_path(folder, "folder")
    if not place.is_dir():
        raise AttnprofError(f"folder: {shown(folder, 300)} is not a folder; name a folder of record files")
    return place
