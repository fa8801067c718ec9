"""The longer commands, from a study to the printed result.

Every import of a report, of progress or of a run stands inside its function: `--help` needs none of them, and answers
in a tenth of the time without. `docs/decisions` has the reasons.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from attnprof.cases.cards import Card
from attnprof.cases.measurement import Outcome
from attnprof.cases.record_file import keeps_nothing
from attnprof.cli.outputs import Output, write_whole
from attnprof.cli.terminal import Interrupted, note, write
from attnprof.errors import AttnprofError
from attnprof.studies.study import LimitsStudy, ModelStudy, RecommendStudy, Study, SweepStudy
from attnprof.text import shell_word

if TYPE_CHECKING:
    from attnprof.progress import StudyProgress
    from attnprof.report.page import Page
    from attnprof.studies.recommend.recommendation import Recommendation
    from attnprof.studies.study_run import StudyRun

S = TypeVar("S", bound=Study)
T = TypeVar("T")
NOTHING_MEASURED = 1
NOTHING_FITS = 3


def sweep(study: SweepStudy, output: Output) -> None:
    """Run `attnprof sweep` and print its table."""
    from attnprof.progress import CaseProgress
    from attnprof.report.sweep import sweep_page
    from attnprof.studies.sweep import SweepRun

    found = carry_out(SweepRun(study), CaseProgress, sweep_page, output)
    require_measured(record.outcome is Outcome.COMPLETED for record in found)


def limits(study: LimitsStudy, output: Output) -> None:
    """Run `attnprof limits` and print its table."""
    from attnprof.progress import SearchProgress
    from attnprof.report.limits import limits_page
    from attnprof.studies.limits import LimitsRun

    found = carry_out(LimitsRun(study), SearchProgress, limits_page, output)
    require_measured(threshold.largest_ok is not None for threshold in found)


def model(study: ModelStudy, output: Output) -> None:
    """Run `attnprof model` and print its profiles."""
    from attnprof.progress import ModelProgress
    from attnprof.report.model import model_page
    from attnprof.studies.model import ModelRun

    found = carry_out(ModelRun(study), ModelProgress, model_page, output)
    require_measured(record.outcome is Outcome.COMPLETED for profile in found for record in profile.records)


def recommend(study: RecommendStudy, output: Output) -> None:
    """Run `attnprof recommend` and print its answer; exit with `NOTHING_FITS` if that is the answer."""
    from attnprof.progress import CandidateProgress
    from attnprof.report.recommend import recommend_page
    from attnprof.studies.recommend.from_file import recommend_from_file
    from attnprof.studies.recommend.from_runs import RecommendRun

    def page_of(found: Sequence[Recommendation]) -> Page:
        return recommend_page(found[0])

    if study.records is not None:
        found: Sequence[Recommendation] = [recommend_from_file(study, study.records)]
        write(page_of(found), output.format)
    else:
        found = carry_out(RecommendRun(study), CandidateProgress, page_of, output)
    if found[0].pick is None:
        outcomes = (option.record.outcome for option in found[0].ranking.options)
        require_measured(outcome in (Outcome.COMPLETED, Outcome.OUT_OF_MEMORY) for outcome in outcomes)
        raise typer.Exit(NOTHING_FITS)


def require_measured(measured: Iterable[bool]) -> None:
    """End the command with `NOTHING_MEASURED` if not one of its cases was."""
    if not any(measured):
        raise typer.Exit(NOTHING_MEASURED)


def run(card: Card, command: Sequence[str], output: Output, *, values: bool, plans: str) -> None:
    """Run a program on an emulated card, print the report, and exit as the program did."""
    from attnprof.report.program import program_page
    from attnprof.studies.program import run_program

    # A program's own output must not mix with data on stdout.
    stdout = None if output.format == "table" else sys.stderr
    found = run_program(card, command, note, values=values, plans=plans, stdout=stdout)
    write(program_page(found), output.format)
    raise typer.Exit(found.exit_code)


def carry_out(
    run: StudyRun[S, T],
    progress: Callable[..., StudyProgress],
    page_of: Callable[[Sequence[T]], Page],
    output: Output,
) -> Sequence[T]:
    """Carry out a study and show its results: on stdout, in a CSV file, and the name of the record file on stderr.

    Whatever ends the work early, what is known by then is shown; after an interruption, the command that resumes it is
    printed last.

    Returns:
        The results.
    """
    from attnprof.progress import progress_on_stderr

    Path.cwd()  # fails if the folder is gone: torch cannot be loaded there, and its own words do not say why
    try:
        with progress_on_stderr(progress, run.step_count) as listener:
            run.carry_out(listener)
    except (KeyboardInterrupt, Interrupted):
        _show_so_far(run, page_of, output)
        done = f"{run.done_count} of {run.total_count} {run.unit}"
        note(f"stopped after {done}{_continuation(run)}")
        raise
    except AttnprofError:
        _show_so_far(run, page_of, output)
        raise
    return show(run, page_of, output)


def show(run: StudyRun[S, T], page_of: Callable[[Sequence[T]], Page], output: Output) -> Sequence[T]:
    """Show the results of a study so far, if there are any, and return them.

    Raises:
        AttnprofError: stdout or the CSV file cannot be written. The record file is named all the same.
    """
    results = run.results()
    if results:
        _show_page(run, page_of(results), output)
    return results


def _show_so_far(run: StudyRun[S, T], page_of: Callable[[Sequence[T]], Page], output: Output) -> None:
    """Show what is known of a study that ended early, without a verdict on what is not known."""
    from attnprof.report.sweep import sweep_page

    records = run.records_so_far()
    if records:
        _show_page(run, sweep_page(records, complete=False), output)
    else:
        show(run, page_of, output)


def _show_page(run: StudyRun[S, T], page: Page, output: Output) -> None:
    try:
        write(page, output.format)
    finally:
        # Whatever cannot be written, the user learns where the records are.
        if not keeps_nothing(run.path):
            note(f"records: {run.path}")
    if output.csv is not None:
        write_whole(output.csv, page.csv(), "csv")
    failed = [record.outcome for record in run.records if record.outcome in (Outcome.CRASHED, Outcome.TIMED_OUT)]
    if failed and not keeps_nothing(run.path):
        counts = " and ".join(f"{failed.count(one)} {one.words}" for one in dict.fromkeys(failed))
        again = resuming_command(sys.argv[1:], run.path, retry="crashed,timed-out")
        longer = ", with a longer --timeout" if Outcome.TIMED_OUT in failed else ""
        note(f"{counts}; to measure again{longer}: {again}")


def _continuation(run: StudyRun[S, T]) -> str:
    """Return how to continue a study that was stopped; nothing if there is no record of it."""
    return f"; continue with: {resuming_command(sys.argv[1:], run.path)}" if run.records else ""


def resuming_command(arguments: Sequence[str], path: Path, *, retry: str = "") -> str:
    """Return the command that continues where the command with these arguments stopped.

    Args:
        arguments: of the command line.
        path: the file of its records.
        retry: outcomes to measure again, as `--retry` takes them; the arguments' own are kept without.
    """
    resumed = list(arguments)
    if "--resume" not in resumed:
        resumed.append("--resume")
    for option, value in (("--out", str(path)), ("--retry", retry)):
        if value:
            resumed = [*_without(option, resumed), option, value]
    return f"attnprof {' '.join(map(shell_word, resumed))}"


def _without(option: str, arguments: Sequence[str]) -> list[str]:
    """Return arguments without an option and its value."""
    kept: list[str] = []
    skipped = False
    for word in arguments:
        if skipped:
            skipped = False
        elif word == option:
            skipped = True
        elif not word.startswith(f"{option}="):
            kept.append(word)
    return kept
