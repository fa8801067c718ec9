"""A sweep with a runner that answers from a script."""

from dataclasses import replace

import pytest
from support.fakes import NotingListener, ScriptedCard, ScriptedRunner, handing_out
from support.samples import ENVIRONMENT, measurement

from attnprof.cases.cards import parse_cards
from attnprof.cases.measurement import Outcome, Result, Source
from attnprof.cases.plan import make_plan
from attnprof.cases.record_lines import read_records
from attnprof.cases.settings import Settings
from attnprof.errors import AttnprofError
from attnprof.studies.study import SweepStudy
from attnprof.studies.sweep import SweepRun


def plan(**change):
    options = {
        "sizes": [(4, 4), (8, 8), (16, 16)], "batches": [1, 2], "channels": [16], "strategies": ["naive", "chunked"],
        "modes": ["forward"], "dtypes": ["fp32"],
    }  # fmt: skip
    return make_plan(**{**options, **change})


def prepared(runners, path, resume=False, settings=Settings(), **change):  # noqa: B008
    runners = runners if isinstance(runners, list) else [runners]
    names = [runner.card_name for runner in runners if runner.card_name]
    cards = tuple(parse_cards(",".join(names))) if names else ()
    study = SweepStudy(settings=settings, cards=cards, path=path, resume=resume, plan=plan(**change))
    return SweepRun(study, handing_out(*runners))


def run(runners, path, **options):
    sweep, listener = prepared(runners, path, **options), NotingListener()
    sweep.carry_out(listener)
    return sweep.results(), listener


def test_larger_cases_of_a_series_are_implied_and_not_run(tmp_path):
    runner = ScriptedRunner(limit=64)
    records, _ = run(runner, tmp_path / "r.jsonl")
    implied = [r for r in records if r.implied_by]
    assert len(records) == 12
    assert [str(c) for c in runner.ran if c.strategy == "naive"] == [
        "naive 1x16x4x4 fp32 forward", "naive 2x16x4x4 fp32 forward", "naive 1x16x8x8 fp32 forward",
    ]  # fmt: skip
    assert {(r.case.workload.batch, r.case.workload.height) for r in implied} == {(2, 8), (1, 16), (2, 16)}
    assert {r.implied_by for r in implied} == {"1x16x8x8 fp32 forward"}
    assert all(r.outcome is Outcome.OUT_OF_MEMORY and r.case.strategy == "naive" for r in implied)


def test_resume_runs_what_is_missing_and_keeps_the_rest(tmp_path):
    path = tmp_path / "r.jsonl"
    first = ScriptedRunner(limit=64, interrupt_after=5)
    with pytest.raises(KeyboardInterrupt):
        run(first, path)
    second = ScriptedRunner(limit=64)
    records, listener = run(second, path, resume=True)
    assert len(first.ran) == 5
    assert not set(first.ran) & set(second.ran)
    assert {r.case for r in records} == set(plan().cases)
    assert listener.done >= 5
    again = ScriptedRunner()
    run(again, path, resume=True)
    assert again.ran == []


def test_what_an_interrupted_sweep_has_is_what_the_file_has(tmp_path):
    sweep = prepared(ScriptedRunner(interrupt_after=5), tmp_path / "r.jsonl")
    with pytest.raises(KeyboardInterrupt):
        sweep.carry_out(NotingListener())
    assert (sweep.done_count, sweep.total_count) == (5, 12)
    assert {r.case for r in sweep.results()} == {r.case for r in read_records(tmp_path / "r.jsonl")}


def test_records_of_another_environment_are_not_shown(tmp_path):
    path = tmp_path / "r.jsonl"
    run(ScriptedRunner(), path)
    other = prepared(ScriptedRunner(environment=replace(ENVIRONMENT, torch="3")), path, resume=True)
    with pytest.raises(AttnprofError, match="torch"):
        other.carry_out(NotingListener())
    assert other.results() == []


def test_resume_in_another_environment_is_refused(tmp_path):
    path = tmp_path / "r.jsonl"
    run(ScriptedRunner(), path)
    with pytest.raises(AttnprofError, match="measured with torch = 2, now it is 3"):
        run(ScriptedRunner(environment=replace(ENVIRONMENT, torch="3")), path, resume=True)
    with pytest.raises(AttnprofError, match="measured with budget_bytes = None, now it is 5"):
        run(ScriptedRunner(), path, resume=True, settings=Settings(budget_bytes=5))


def test_what_means_nothing_is_unsupported_and_not_run(tmp_path):
    runner = ScriptedRunner()
    records, _ = run(runner, tmp_path / "r.jsonl", strategies=["naive+fp16"], dtypes=["fp16"])
    assert runner.ran == []
    assert {r.outcome for r in records} == {Outcome.UNSUPPORTED}
    assert "fp16 changes the precision of an fp32 workload" in records[0].reason


def test_each_case_has_an_estimate(tmp_path):
    _, listener = run(ScriptedRunner(), tmp_path / "r.jsonl")
    assert set(listener.estimates) == set(plan().cases)
    assert all(seconds > 0 for seconds in listener.estimates.values())


def test_cards_are_served_side_by_side_and_told_apart(tmp_path):
    path = tmp_path / "r.jsonl"
    cards = [ScriptedCard("t4", limit=64), ScriptedCard("l4"), ScriptedCard("a100")]
    records, _ = run(cards, path)
    assert len(records) == len(read_records(path)) == 3 * len(plan().cases)
    assert [r.card for r in records] == ["t4"] * 12 + ["l4"] * 12 + ["a100"] * 12
    assert [r.case for r in records[:12]] == list(plan().cases)
    assert {r.source for r in records} == {Source.EMULATED}
    assert all(r.measurement.matmul_flops_per_second is None for r in records)


def test_every_refusal_of_a_card_is_its_own(tmp_path):
    card = ScriptedCard("t4", limit=64)
    records, _ = run(card, tmp_path / "r.jsonl")
    assert len(card.ran) == 12
    assert not any(r.implied_by for r in records)


def test_resume_keeps_what_other_cards_and_devices_have(tmp_path):
    path = tmp_path / "r.jsonl"
    run([ScriptedCard("t4"), ScriptedCard("l4")], path)
    again, new, here = ScriptedCard("t4"), ScriptedCard("t4,memory=8GB"), ScriptedRunner()
    records, _ = run([again, new], path, resume=True)
    assert (len(again.ran), len(new.ran), len(records)) == (0, 12, 24)
    run(here, path, resume=True)
    assert len(here.ran) == 12
    changed = ScriptedCard("t4")
    changed.environment = replace(changed.environment, torch="3")
    with pytest.raises(AttnprofError, match="torch = 2, now it is 3"):
        run(changed, path, resume=True)


def test_an_error_on_one_card_ends_all_and_keeps_the_records(tmp_path):
    class Broken(ScriptedCard):
        def open(self):
            raise AttnprofError("no such thing")

    path = tmp_path / "r.jsonl"
    others = [ScriptedCard("l4"), ScriptedCard("a100")]
    with pytest.raises(AttnprofError, match="no such thing"):
        run([Broken("t4"), *others], path)
    assert all(other.stopped for other in others)
    assert len(read_records(path)) == sum(len(other.ran) for other in others)


def test_a_newcomer_without_a_gpu_is_told_how_to_ask_for_a_card(tmp_path):
    _, listener = run(ScriptedRunner(), tmp_path / "a.jsonl")
    assert listener.told == ["no CUDA device: measuring on this CPU; --gpu t4 answers for a GPU that is not here"]
    _, listener = run(ScriptedRunner(), tmp_path / "b.jsonl", settings=Settings(device="cpu"))
    assert listener.told == []
    _, listener = run(ScriptedCard("t4"), tmp_path / "c.jsonl")
    assert listener.told == []


def test_hours_are_said_before_they_are_spent_with_how_to_ask_for_less(tmp_path):
    settings = Settings(device="cpu", timeout_seconds=120.0)
    _, listener = run(
        ScriptedRunner(), tmp_path / "r.jsonl", settings=settings, sizes=[(64, 64), (1024, 1024), (2048, 2048)]
    )
    [advice] = listener.told
    assert advice.startswith("8 of these cases are ended by --timeout after 120 s each; for less, choose")
    assert "--gpu t4" in advice
    # A case takes no longer than its time-out.
    assert max(listener.estimates.values()) == 120.0


@pytest.mark.parametrize("retry", [(), (Outcome.CRASHED, Outcome.TIMED_OUT)])
def test_what_crashed_is_measured_again_only_if_asked(tmp_path, retry):
    path = tmp_path / "r.jsonl"
    first = ScriptedRunner()
    first.result = lambda case: Result(
        Outcome.CRASHED if case.workload.height == 8 else Outcome.COMPLETED, "", measurement()
    )
    run(first, path)
    sweep = prepared(ScriptedRunner(), path, resume=True)
    again = ScriptedRunner()
    sweep = SweepRun(replace(sweep.study, retry=retry), handing_out(again))
    sweep.carry_out(NotingListener())
    assert {case.workload.height for case in again.ran} == ({8} if retry else set())
    assert len(sweep.results()) == len(plan().cases)
    assert any(record.outcome is Outcome.CRASHED for record in sweep.results()) == (not retry)
