"""Whatever ends a command early, what is known by then is shown, with the command that continues."""

import sys

import pytest
from support.fakes import ScriptedRunner, SizedCard, handing_out

from attnprof.cli import commands, listings
from attnprof.cli.outputs import Output
from attnprof.errors import AttnprofError
from attnprof.progress import CandidateProgress, CaseProgress, SearchProgress
from attnprof.report.limits import limits_page
from attnprof.report.sweep import sweep_page
from attnprof.studies import requests
from attnprof.studies.doctor import Finding
from attnprof.studies.limits import LimitsRun
from attnprof.studies.recommend.from_runs import RecommendRun
from attnprof.studies.sweep import SweepRun

TABLE = Output("table")


@pytest.fixture
def said(capsys, monkeypatch):
    """Return a function that returns stdout and stderr so far; the command line is one that can be continued."""
    monkeypatch.setattr(sys, "argv", ["attnprof", "CMD"])
    return capsys.readouterr


def test_an_interrupted_recommendation_shows_its_candidates_and_picks_none(tmp_path, said):
    study = requests.recommend_study(device="cpu", out=tmp_path / "r.jsonl", budget="1GB")
    run = RecommendRun(study, handing_out(ScriptedRunner(interrupt_after=3)))
    with pytest.raises(KeyboardInterrupt):
        commands.carry_out(run, CandidateProgress, lambda found: pytest.fail("no answer yet"), TABLE)
    out, err = said()
    assert all(name in out for name in ("naive", "naive+checkpoint", "chunked"))
    assert "Pick" not in out
    assert err.endswith(f"stopped after 3 of 12 cases; continue with: attnprof CMD --resume --out {study.path}\n")
    assert f"records: {study.path}\n" in err


def test_an_interrupted_search_after_the_answer_shows_the_answer(tmp_path):
    study = requests.recommend_study(gpu="t4", strategy="naive,chunked", out=tmp_path / "r.jsonl")
    run = RecommendRun(study, handing_out(SizedCard("t4", total_mib=10**6, interrupt_after=3)))
    shown = []
    with pytest.raises(KeyboardInterrupt):
        commands.carry_out(run, CandidateProgress, lambda found: shown.append(found[0]) or sweep_page([]), TABLE)
    assert shown[0].strategy == "chunked"
    assert shown[0].largest_map is None


def test_an_interrupted_search_shows_how_far_it_came(tmp_path, said):
    study = requests.limits_study(gpu="t4", strategy="naive", mode="forward", out=tmp_path / "r.jsonl")
    run = LimitsRun(study, handing_out(SizedCard("t4", total_mib=10**6, interrupt_after=2)))
    with pytest.raises(KeyboardInterrupt):
        commands.carry_out(run, SearchProgress, limits_page, TABLE)
    out, err = said()
    assert ">= " in out or ">=" in out
    assert "stopped after 0 of 1 searches; continue with" in err


def test_a_sweep_that_an_error_ends_shows_what_it_has(tmp_path, said):
    runner = ScriptedRunner(interrupt_after=2)
    measure = runner.measure

    def failing(case, *rest):
        try:
            return measure(case, *rest)
        except KeyboardInterrupt:
            raise AttnprofError("the device has gone") from None

    runner.measure = failing
    study = requests.sweep_study(device="cpu", out=tmp_path / "r.jsonl")
    with pytest.raises(AttnprofError, match="the device has gone"):
        commands.carry_out(SweepRun(study, handing_out(runner)), CaseProgress, sweep_page, TABLE)
    out, err = said()
    assert "naive+checkpoint" in out and "Pick" not in out
    assert f"records: {study.path}\n" in err


def test_nothing_known_is_nothing_to_continue(tmp_path, said):
    study = requests.sweep_study(device="cpu", out=tmp_path / "r.jsonl")
    with pytest.raises(KeyboardInterrupt):
        commands.carry_out(
            SweepRun(study, handing_out(ScriptedRunner(interrupt_after=0))), CaseProgress, sweep_page, TABLE
        )
    out, err = said()
    assert (out, err.splitlines()[-1]) == ("", "stopped after 0 of 32 cases")
    assert not study.path.exists()


def test_an_interrupted_doctor_shows_what_it_found(monkeypatch, said):
    def examine(_):
        yield Finding("torch", "torch 2.6 is installed")
        raise KeyboardInterrupt

    monkeypatch.setattr("attnprof.studies.doctor.examine", examine)
    with pytest.raises(KeyboardInterrupt):
        listings.doctor()
    out, err = said()
    assert "torch 2.6 is installed" in out
    assert err == "stopped before everything was examined\n"


def test_the_command_that_continues_names_each_option_once():
    arguments = ["sweep", "--out", "a.jsonl", "--resume", "--retry=crashed"]
    path = "a b.jsonl"
    assert commands.resuming_command(arguments, path) == "attnprof sweep --resume --retry=crashed --out 'a b.jsonl'"
    again = commands.resuming_command(arguments, path, retry="timed-out")
    assert again == "attnprof sweep --resume --out 'a b.jsonl' --retry timed-out"
