"""The longer commands, from a study to the printed result.

Every import of a report, of progress or of a run stands inside its function: `--help` needs none of them, and answers
in a tenth of the time without. `docs/decisions` has the reasons.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import typer

from attnprof.cases.cards import Card
from attnprof.cli.terminal import Interrupted, note, write
from attnprof.errors import AttnprofError
from attnprof.studies.study import LimitsStudy, ModelStudy, RecommendStudy, Study, SweepStudy

if TYPE_CHECKING:
    from attnprof.progress import StudyProgress
    from attnprof.report.page import Page
    from attnprof.studies.recommend.recommendation import Recommendation
    from attnprof.studies.study_run import StudyRun

S = TypeVar("S", bound=Study)
T = TypeVar("T")
NOTHING_FITS = 3


@dataclass(frozen=True)
class Output:
    """The places that a result goes to.

    Attributes:
        format: of stdout, one of `FORMATS`.
        csv: a CSV file to write as well.
    """

    format: str
    csv: Path | None = None


def sweep(study: SweepStudy, output: Output) -> None:
    """Run `attnprof sweep` and print its table."""
    from attnprof.progress import CaseProgress
    from attnprof.report.sweep import sweep_page
    from attnprof.studies.sweep import SweepRun

    carry_out(SweepRun(study), CaseProgress, sweep_page, output)


def limits(study: LimitsStudy, output: Output) -> None:
    """Run `attnprof limits` and print its table."""
    from attnprof.progress import SearchProgress
    from attnprof.report.limits import limits_page
    from attnprof.studies.limits import LimitsRun

    carry_out(LimitsRun(study), SearchProgress, limits_page, output)


def model(study: ModelStudy, output: Output) -> None:
    """Run `attnprof model` and print its profiles."""
    from attnprof.progress import ModelProgress
    from attnprof.report.model import model_page
    from attnprof.studies.model import ModelRun

    carry_out(ModelRun(study), ModelProgress, model_page, output)


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
        raise typer.Exit(NOTHING_FITS)


def run(card: Card, command: Sequence[str], output: Output) -> None:
    """Run a program on an emulated card, print the report, and exit as the program did."""
    from attnprof.report.program import program_page
    from attnprof.studies.program import run_program

    # A program's own output must not mix with data on stdout.
    found = run_program(card, command, note, stdout=None if output.format == "table" else sys.stderr)
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

    try:
        with progress_on_stderr(progress, run.total_count) as listener:
            run.carry_out(listener)
    except (KeyboardInterrupt, Interrupted):
        show(run, page_of, output)
        done = f"{run.done_count} of {run.total_count} {run.unit}"
        note(f"stopped after {done}; continue with: {resuming_command(sys.argv[1:], run.study.path)}")
        raise
    except AttnprofError:
        show(run, page_of, output)
        raise
    return show(run, page_of, output)


def show(run: StudyRun[S, T], page_of: Callable[[Sequence[T]], Page], output: Output) -> Sequence[T]:
    """Show the results of a study so far, if there are any, and return them.

    Raises:
        AttnprofError: the CSV file cannot be written.
    """
    results = run.results()
    if not results:
        return results
    page = page_of(results)
    write(page, output.format)
    if output.csv is not None:
        try:
            output.csv.write_text(page.csv(), encoding="utf-8")
        except OSError as error:
            raise AttnprofError(f"cannot write {output.csv}: {error.strerror}") from None
    note(f"records: {run.study.path}")
    return results


def resuming_command(arguments: Sequence[str], path: Path) -> str:
    """Return the command that continues where the command with these arguments stopped."""
    resumed = list(arguments)
    if "--resume" not in resumed:
        resumed.append("--resume")
    if not any(word == "--out" or word.startswith("--out=") for word in resumed):
        resumed += ["--out", str(path)]
    return f"attnprof {shlex.join(resumed)}"
