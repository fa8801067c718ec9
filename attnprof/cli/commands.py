"""What the longer commands do between their options and their end. Imports late: `--help` needs none of it."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import typer

from attnprof.cli.terminal import note, opened, raise_again, show, surviving, write
from attnprof.errors import AttnprofError
from attnprof.studies.requests import LimitsRequest, ModelRequest, RecommendRequest, SweepRequest

NOTHING_FITS = 3


def sweep(request: SweepRequest, csv_path: str | None, output: str) -> None:
    """A table of every case, or the rows in another form; also to a CSV file."""
    from attnprof.cases.record import Record
    from attnprof.progress import progress_on_stderr
    from attnprof.report.sweep import sweep_page
    from attnprof.studies.sweep import in_order, run_plan

    plan, settings, path = request.plan(), request.settings(), request.path()
    cards = [str(card) for card in request.cards()]
    total = len(plan.cases) * max(1, len(cards))
    wanted, served = set(plan.cases), set()
    kept: list[Record] = []  # the file's, which has a case that Ctrl-C kept from being yielded
    with surviving() as ending, progress_on_stderr(plan, max(1, len(cards))) as progress, ExitStack() as stack:
        runners, file = opened(request, path, stack, progress.tell)
        for record in run_plan(plan, settings, runners, file, progress):
            served.add(record.card)
            kept = file.records
    records = [record for record in kept if record.case in wanted and record.card in served]
    show(in_order(records, plan, cards), sweep_page, output, csv_path, path)
    raise_again(ending, path, f"{len(records)} of {total} cases")


def limits(request: LimitsRequest, csv_path: str | None, output: str) -> None:
    """The same of thresholds."""
    from attnprof.progress import search_progress_on_stderr
    from attnprof.report.limits import limits_page
    from attnprof.studies.limits import run_limits

    axes, strategies, settings, path = request.axes(), request.strategies(), request.settings(), request.path()
    cards = [str(card) for card in request.cards()]
    total = len(axes) * len(strategies) * max(1, len(cards))
    found: list[Any] = []
    with surviving() as ending, search_progress_on_stderr(total) as progress, ExitStack() as stack:
        runners, file = opened(request, path, stack, progress.tell)
        for threshold in run_limits(axes, strategies, settings, runners, file, progress):
            found.append(threshold)
    ranks = {card: rank for rank, card in enumerate(cards)}
    found.sort(key=lambda t: ranks.get(t.record.card, 0) if t.record else 0)
    show(found, limits_page, output, csv_path, path)
    raise_again(ending, path, f"{len(found)} of {total} searches")


def model(request: ModelRequest, csv_path: str | None, output: str) -> None:
    """The same of a user's model."""
    from attnprof.cases.record import Record
    from attnprof.progress import model_progress_on_stderr
    from attnprof.report.model import model_page
    from attnprof.studies.model import ModelError, ModelProfile, profile_model, unfinished

    plan, path = request.plan(), request.path()
    cards = [str(card) for card in request.cards()]
    devices, modes = max(1, len(cards)), len({case.workload for case in plan.cases})
    found: list[ModelProfile] = []
    kept: list[Record] = []
    with surviving() as ending, model_progress_on_stderr(plan, devices) as progress, ExitStack() as stack:
        runners, file = opened(request, path, stack, progress.tell)
        kept = file.records
        for profile in profile_model(request, plan, runners, file, progress):
            found.append(profile)
    finished = len(found)
    if ending and not isinstance(ending[0], ModelError):
        mine = [record for record in kept if record.card in cards or not (cards or record.card)]
        found += unfinished(plan, mine, found)
    ranks = {card: rank for rank, card in enumerate(cards)}
    found.sort(key=lambda profile: ranks.get(profile.as_is.card or "", 0))
    show(found, model_page, output, csv_path, path)
    raise_again(ending, path, f"{finished} of {devices * modes} profiles")


def recommend(request: RecommendRequest, output: str) -> None:
    """One answer; exits with `NOTHING_FITS` where that is it."""
    from attnprof.progress import recommend_progress_on_stderr
    from attnprof.report.recommend import recommend_page
    from attnprof.studies.recommend.from_file import recommend_from_file
    from attnprof.studies.recommend.from_runs import recommend_from_runs

    plan = request.plan()
    if request.records is not None:
        found = recommend_from_file(request, plan, Path(request.records))
    else:
        path = request.path()
        with surviving() as ending, recommend_progress_on_stderr(plan) as progress, ExitStack() as stack:
            [runner], file = opened(request, path, stack, progress.tell)
            found = recommend_from_runs(request, plan, runner, request.runner_of, file, progress)
        raise_again(ending, path, "some of its runs")
    write(recommend_page(found), output)
    if request.records is None:
        note(f"records: {path}")
    if found.ranking.pick is None:
        raise typer.Exit(NOTHING_FITS)


def run(gpu: str, context: str | None, command: list[str], output: str) -> None:
    """A program's report; exits as the program did."""
    from attnprof.cases.cards import parse_cards
    from attnprof.report.program import program_page
    from attnprof.studies.program import run_program

    cards = parse_cards(gpu, context)
    if len(cards) != 1:
        raise AttnprofError(f"gpu: a program runs on one card, {gpu!r} names {len(cards)}")
    # Nothing but the report is to reach those who read it as data.
    found = run_program(cards[0], command, note, stdout=None if output == "table" else sys.stderr)
    write(program_page(found), output)
    raise typer.Exit(found.exit_code)
