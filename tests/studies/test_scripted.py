"""The searching studies with a card whose memory is known exactly, and no process."""

import pytest
from support.fakes import SizedCard, handing_out
from support.models import NET

from attnprof.cases.measurement import Outcome
from attnprof.cases.record_lines import read_records
from attnprof.errors import AttnprofError
from attnprof.studies import requests
from attnprof.studies.limits import LimitsRun
from attnprof.studies.listener import Listener
from attnprof.studies.model import ModelRun
from attnprof.studies.recommend.from_runs import RecommendRun


def test_limits_bracket_what_fits_and_resume_runs_nothing(tmp_path):
    options = {"gpu": "t4", "strategy": "naive,chunked", "mode": "forward", "out": tmp_path / "r.jsonl"}
    card = SizedCard("t4", total_mib=1024)
    run = LimitsRun(requests.limits_study(**options), handing_out(card))
    run.carry_out(Listener())
    naive, chunked = run.results()
    # N^2 / 1024 <= 1024 up to N = 1024, and N <= 1024.
    assert (naive.largest_ok, naive.smallest_failed, naive.failure) == (32, 33, Outcome.OUT_OF_MEMORY)
    assert (chunked.largest_ok, chunked.smallest_failed) == (32, 33)
    assert (run.done_count, run.total_count) == (2, 2)
    again = SizedCard("t4", total_mib=1024)
    resumed = LimitsRun(requests.limits_study(**options, resume=True), handing_out(again))
    resumed.carry_out(Listener())
    assert again.ran == []
    assert [t.largest_ok for t in resumed.results()] == [32, 32]


def test_an_interrupted_search_keeps_what_was_found(tmp_path):
    study = requests.limits_study(gpu="t4", strategy="naive,chunked", mode="forward", out=tmp_path / "r.jsonl")
    run = LimitsRun(study, handing_out(SizedCard("t4", total_mib=1024, interrupt_after=12)))
    with pytest.raises(KeyboardInterrupt):
        run.carry_out(Listener())
    found, begun = run.results()
    assert run.done_count == 1 < run.total_count
    assert (found.strategy, found.closed) == ("naive", True)
    # The search that was interrupted is shown as far as it came.
    assert (begun.strategy, begun.closed, begun.reason) == ("chunked", False, "interrupted before its end")
    assert begun.largest_ok
    assert len(read_records(tmp_path / "r.jsonl")) == 12 == found.probes + begun.probes


def test_a_recommendation_says_how_far_the_pick_goes(tmp_path):
    study = requests.recommend_study(hw=16, batch=2, gpu="t4", strategy="naive,chunked", margin="0",
                                     out=tmp_path / "r.jsonl")  # fmt: skip
    larger = SizedCard("t4,memory=32TiB", total_mib=10**9)
    run = RecommendRun(study, handing_out(SizedCard("t4", total_mib=512), larger))
    run.carry_out(Listener())
    [answer] = run.results()
    # naive takes 2 * 256^2 / 1024 = 128 MiB and chunked 2 * 256 = 512 MiB: without times, memory decides.
    assert answer.strategy == "naive"
    assert (answer.largest_map.largest_ok, answer.largest_batch.largest_ok) == (22, 8)
    assert str(answer).startswith("Use naive for 2x128x16x16 fp32 train: it needs 128 MiB of 512 MiB")
    assert "SelfAttention2d" in answer.snippet
    assert larger.ran == []


def test_where_nothing_fits_the_need_is_known_from_a_larger_card(tmp_path):
    study = requests.recommend_study(hw=64, batch=2, gpu="t4", strategy="naive,chunked", out=tmp_path / "r.jsonl")
    larger = SizedCard("t4,memory=32TiB", total_mib=10**9)
    run = RecommendRun(study, handing_out(SizedCard("t4", total_mib=1000), larger))
    run.carry_out(Listener())
    [answer] = run.results()
    assert answer.pick is None
    assert len(larger.ran) == 2
    assert {option.strategy: option.need_bytes // 2**20 for option in answer.ranking.options} == {
        "naive": 2 * 4096**2 // 1024, "chunked": 2 * 4096,
    }  # fmt: skip
    assert [near.given_up for near in answer.nearest] == ["map"]


@pytest.fixture
def net(tmp_path, monkeypatch):
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_model_is_profiled_with_its_largest_batches(net):
    study = requests.model_study("net.py:Net", input="2,1000", gpu="t4", strategy="chunked", out=net / "r.jsonl")
    run = ModelRun(study, handing_out(SizedCard("t4", total_mib=1000), SizedCard("t4,memory=32TiB", total_mib=10**9)))
    run.carry_out(Listener())
    [profile] = run.results()
    assert [record.case.strategy for record in profile.records] == ["as-is", "chunked"]
    # 64^2 / 1024 = 4 MiB and 64 MiB an image.
    assert {name: t.largest_ok for name, t in profile.largest_batches.items()} == {"as-is": 250, "chunked": 15}


def test_what_was_measured_before_an_interruption_is_a_profile_too(net):
    study = requests.model_study("net.py:Net", input="2,1000", gpu="t4", strategy="chunked", out=net / "r.jsonl")
    run = ModelRun(study, handing_out(SizedCard("t4", interrupt_after=1)))
    with pytest.raises(KeyboardInterrupt):
        run.carry_out(Listener())
    [profile] = run.results()
    assert [record.case.strategy for record in profile.records] == ["as-is"]
    assert profile.not_searched == "interrupted before"
    assert (run.done_count, run.total_count) == (0, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hw": 0}, "hw: 0 is not a positive whole number"),
        ({"hw": 1.5}, "hw: 1.5 has the wrong type"),
        ({"batch": [1, "x"]}, "batch: 'x' is not a positive whole number"),
        ({"strategy": 3}, "strategy: 3"),
        ({"gpu": "t5"}, "gpu: 't5' is not in the catalogue"),
        ({"timeout": "soon"}, "timeout: 'soon' is not"),
        ({"seed": 2**64}, "is not a whole number of 64 bits"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_names_the_option(options, message):
    with pytest.raises(AttnprofError) as raised:
        requests.sweep_study(**options)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_numbers_of_numpy_tuples_and_cards_work():
    import numpy

    from attnprof.cases.cards import catalogue

    study = requests.sweep_study(
        hw=[numpy.int64(8), (8, 16)], batch=numpy.array([1, 2]), channels=(numpy.int32(16),), gpu=catalogue()[0],
        strategy=("naive",), mode="forward", budget=numpy.int64(10**9),
    )  # fmt: skip
    assert {(c.workload.height, c.workload.width) for c in study.plan.cases} == {(8, 8), (8, 16)}
    assert {c.workload.batch for c in study.plan.cases} == {1, 2}
    assert [card.key for card in study.cards] == ["t4"]
    assert study.settings.budget_bytes == 10**9
