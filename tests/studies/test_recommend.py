"""Ranking, its reasons and its words on made-up records; from a file; the snippet; and the command on real runs."""

import io
import json
import subprocess
import sys

import pytest
import torch
from rich.console import Console
from support.sagan import SaganBlock
from support.samples import MIB, emulated, record

from attnprof.attention import BLOCKS, COMPONENTS, block_form
from attnprof.cases.capacity import Capacity
from attnprof.cases.measurement import Outcome
from attnprof.cases.parsing import parse_margin
from attnprof.cases.record_file import RecordFile
from attnprof.errors import AttnprofError
from attnprof.report.recommend import recommend_page
from attnprof.studies.recommend.capacity import capacity_with_margin
from attnprof.studies.recommend.from_file import recommend_from_file
from attnprof.studies.recommend.ranking import rank
from attnprof.studies.recommend.recommendation import Nearest, Recommendation, fitting_approximations
from attnprof.studies.recommend.snippet import snippet
from attnprof.studies.requests import recommend_study

ROOMY = Capacity(1000 * MIB, 100 * MIB)


def names(ranking):
    return [option.strategy for option in ranking.options]


def why(ranking):
    return {option.strategy: option.why_not for option in ranking.options}


# ---- ranking ------------------------------------------------------------------------------------------


def test_latency_decides_memory_breaks_ties_and_exact_comes_first():
    ranking = rank(
        [
            record("naive", peak_mib=150, seconds=0.2),
            record("chunked", peak_mib=14, seconds=0.055),
            record("online", peak_mib=13, seconds=0.0549),
            record("sdpa-pad", peak_mib=20, seconds=0.050),
            record("pooled:2", peak_mib=10, seconds=0.01),
        ],
        ROOMY,
    )
    # The smallest of those about as fast as the fastest; then the same among what is left, and so on.
    assert names(ranking) == ["online", "chunked", "sdpa-pad", "naive", "pooled:2"]
    assert ranking.pick.strategy == "online"
    assert why(ranking) == {
        "online": "",
        "chunked": "about as fast, 1.1x the memory",
        "sdpa-pad": "about as fast, 1.5x the memory",
        "naive": "3.6x slower, 11.5x the memory",
        "pooled:2": "approximate: pooled keys, 5.5x faster, 1.3x less memory",
    }


def test_approximate_ones_are_ranked_alike_where_allowed():
    records = [record("chunked", seconds=0.05), record("pooled:2", seconds=0.01)]
    assert rank(records, ROOMY).pick.strategy == "chunked"
    assert rank(records, ROOMY, allow_approximate=True).pick.strategy == "pooled:2"


def test_what_does_not_fit_says_by_how_much():
    ranking = rank(
        [
            record(
                "naive", Outcome.OUT_OF_MEMORY, reason="limit 1 GiB: CUDA out of memory. Tried to allocate 2.00 GiB."
            ),
            record("sdpa", Outcome.OUT_OF_MEMORY, reason="limit 1 GiB: no"),
            record("sdpa-pad", Outcome.UNSUPPORTED, reason="no kernel image"),
            record("chunked", peak_mib=901),
            record("online", peak_mib=900),
        ],
        ROOMY,
        needs={"sdpa": 2900 * MIB},
    )
    assert ranking.pick.strategy == "online"  # to the byte
    assert why(ranking) == {
        "online": "",
        "chunked": "over by 1.00 MiB",
        "sdpa": "over by 1.95 GiB",
        "naive": "out of memory: asked for 2.00 GiB more",
        "sdpa-pad": "unsupported: no kernel image",
    }
    assert not any(option.usable for option in ranking.options[1:])


def test_on_cuda_cache_and_context_count():
    [option] = rank([emulated("t4", "chunked", 500)], ROOMY).options
    assert option.need_bytes == 610 * MIB  # 10 MiB of cache and 100 of context beside the peak


def test_without_latencies_memory_decides():
    ranking = rank([emulated("t4", "sdpa-pad", 60), emulated("t4", "chunked", 50)], ROOMY)
    assert names(ranking) == ["chunked", "sdpa-pad"]
    assert why(ranking)["sdpa-pad"] == "1.1x the memory"


def test_nothing_fits():
    ranking = rank([record("naive", peak_mib=950), record("pooled:2", peak_mib=100)], ROOMY)
    assert ranking.pick is None
    assert why(ranking) == {"naive": "over by 50.0 MiB", "pooled:2": "approximate: pooled keys"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hw": "32,64"}, "one value each of hw"),
        ({"mode": "forward,train"}, "one value each of hw"),
        ({"gpu": "t4,l4"}, "answers for one card"),
        ({"margin": "100%"}, "is neither below 100%"),
        ({"margin": "much"}, "write 10% or 1GiB"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(AttnprofError, match=message):
        recommend_study(**options)


def test_the_margin_is_a_share_or_a_size():
    assert capacity_with_margin(1000, parse_margin("25%")).usable_bytes == 750
    assert capacity_with_margin(2048, parse_margin("1KiB")).usable_bytes == 1024
    assert capacity_with_margin(1000, parse_margin("0")).usable_bytes == 1000
    with pytest.raises(AttnprofError, match="leaves nothing"):
        capacity_with_margin(1000, parse_margin("1GiB"))


def test_lower_precision_is_no_candidate_for_half_precision():
    strategies = {case.strategy for case in recommend_study(dtype="fp16").plan.cases}
    assert "chunked" in strategies
    assert not any(case.endswith(("fp16", "amp")) for case in strategies)


# ---- words --------------------------------------------------------------------------------------------

FITS = """\
1x128x64x64 fp32 forward - t4: 16.0 GiB, CUDA context 100 MiB (emulated)
strategy      needs  share  step time  verdict
────────────────────────────────────────────────────────────────────────────────
online     1.97 GiB    12%          -  pick
sdpa-pad   3.04 GiB    19%          -  1.5x the memory
~pooled:2  0.99 GiB     6%          -  approximate: pooled keys, 2.0x less
                                       memory
naive      64.0 GiB   400%          -  over by 49.6 GiB

needs: memory at the peak, on CUDA with the allocator's cache and the CUDA
context. ~ marks an approximate strategy, and an estimated time.

Use online: it needs 1.97 GiB of 16.0 GiB and leaves 14.0 GiB free (margin: 1.60
GiB).
naive runs out of memory: it needs 64.0 GiB.
Exact: the same function as naive to rounding; its error was not measured (an
emulated card computes nothing).

# attnprof is installed from a clone of its repository: pip install ."""


def fitting():
    total = 16 * 2**30
    records = [
        emulated("t4", "naive"), emulated("t4", "online", 1907), emulated("t4", "sdpa-pad", 3003),
        emulated("t4", "pooled:2", 900),
    ]  # fmt: skip
    return Recommendation(rank(records, Capacity(total, total // 10), needs={"naive": 64 * 2**30}), records[0])


def text_of(found, width=80):
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    console.print(recommend_page(found).table())
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_the_answer_for_a_person():
    lines = text_of(fitting())
    assert lines[: len(FITS.splitlines())] == FITS.splitlines()
    assert "\n".join(lines).endswith(snippet("online"))  # not broken over lines
    assert "```python\n# attnprof is installed" in recommend_page(fitting()).markdown()


def test_where_nothing_fits_the_answer_has_what_would():
    records = [record("naive", peak_mib=950, batch=8, mode="train"), record("pooled:2", batch=8, mode="train")]
    near = (
        Nearest("batch", record("naive", batch=3, mode="train").case, 800 * MIB),
        Nearest("keys", records[1].case, 100 * MIB),
        Nearest("map", record("naive", batch=8, side=56, mode="train").case, 890 * MIB),
    )
    text = "\n".join(text_of(Recommendation(rank(records, ROOMY), records[0], nearest=near), width=200))
    assert "Nothing exact fits 8x128x64x64 fp32 train in 900 MiB (0.98 GiB less a margin of 100 MiB)." in text
    assert "The nearest, naive, is over by 50.0 MiB." in text
    order = [
        "- a batch of 3: naive, 800 MiB; accumulate gradients over 3 steps for the same update",
        "- fewer keys, so another function: pooled:2, 100 MiB (--allow-approximate)",
        "- a map of 56x56: naive, 890 MiB",
    ]
    assert [text.index(line) for line in order] == sorted(text.index(line) for line in order)


def test_another_attention_is_the_worst_of_what_fits_and_is_called_so():
    records = [
        record("naive", peak_mib=950), record("linear+fp16", peak_mib=5), record("axial", peak_mib=9),
        record("pooled:2+linear", peak_mib=7), record("pooled:2", peak_mib=100), record("chunked+fp16", peak_mib=200),
    ]  # fmt: skip
    ranking = rank(records, ROOMY)
    found = fitting_approximations(ranking)
    assert [(near.given_up, near.case.strategy) for near in found] == [
        ("precision", "chunked+fp16"), ("keys", "pooled:2"), ("attention", "linear+fp16"),
    ]  # fmt: skip
    text = "\n".join(text_of(Recommendation(ranking, records[0], nearest=tuple(found)), width=200))
    assert "- another attention, so another function: linear+fp16, 5.00 MiB (--allow-approximate)" in text
    assert "Another attention than naive's (weights need training again): linear+fp16, pooled:2+linear, axial\n" in text


def test_another_attention_is_picked_where_allowed_and_says_what_it_takes():
    records = [record("naive", peak_mib=150, seconds=0.2), record("linear", seconds=0.01, error=2.0)]
    assert rank(records, ROOMY).pick.strategy == "naive"
    assert why(rank(records, ROOMY))["linear"] == "approximate: another attention, 20.0x faster, 1.5x less memory"
    text = "\n".join(text_of(Recommendation(rank(records, ROOMY, allow_approximate=True), records[0]), width=200))
    assert (
        "Another function than naive's (another attention): weights need training again; largest error 2e+00 "
        "against float64." in text
    )


def test_what_failed_for_other_reasons_is_not_said_not_to_fit():
    records = [record("naive", Outcome.TIMED_OUT, reason="no end after 120 s (--timeout)")]
    [*_, first, second] = text_of(Recommendation(rank(records, ROOMY), records[0]), width=120)
    assert first == "No exact variant ran 1x128x64x64 fp32 forward, for other reasons than memory: see the verdicts."
    assert second == "No smaller batch or map was found to fit either."


def test_json_for_scripts():
    answer = json.loads(recommend_page(fitting()).json())
    assert (answer["fits"], answer["pick"], answer["source"], answer["gpu"]) == (True, "online", "emulated", "t4")
    assert answer["usable_bytes"] == answer["total_bytes"] - answer["margin_bytes"]
    assert {o["strategy"]: o["usable"] for o in answer["options"]} == {
        "online": True, "sdpa-pad": True, "pooled:2": False, "naive": False,
    }  # fmt: skip
    assert "SelfAttention2d" in answer["snippet"]


# ---- from a file --------------------------------------------------------------------------------------


def test_from_a_file_of_several_devices_and_sizes(tmp_path):
    path = tmp_path / "r.jsonl"
    with RecordFile(path, resume=False) as file:
        for one in [
            record("naive", peak_mib=150), record("chunked", peak_mib=14, seconds=0.05),
            record("chunked", peak_mib=80, side=128), record("chunked", peak_mib=950, side=256),
            record("chunked", peak_mib=56, batch=4), emulated("t4", "chunked", 50), emulated("t4", "naive"),
        ]:  # fmt: skip
            file.append(one)

    def ask(**options):
        return recommend_from_file(recommend_study(mode="forward", **options), path)

    found = ask(device="cpu", budget="1000MiB")
    assert found.ranking.pick.strategy == "chunked"
    assert found.largest_map.largest_ok == 128  # 950 MiB do not leave the margin free
    assert found.largest_batch.largest_ok == 4
    assert not found.largest_map.closed
    assert "nothing was run" in "\n".join(text_of(found))
    on_card = ask(gpu="t4")
    assert on_card.ranking.capacity.total_bytes == 16 * 2**30
    assert why(on_card.ranking)["naive"].startswith("out of memory")
    assert ask(device="cpu", budget="100MiB", strategy="naive").ranking.pick is None
    for options, message in [
        ({}, "of several devices: choose one with --device cpu or --gpu t4"),
        ({"gpu": "t4", "budget": "24GiB"}, "recorded within 16.0 GiB, and what was out of memory there may fit"),
        ({"device": "cpu"}, "come from a CPU, whose memory is not fixed; pass --budget 12GB"),
        ({"hw": "48"}, r"has no record of 1x128x48x48 fp32 forward \(it has 1x128x64x64 fp32 forward on cpu"),
    ]:
        with pytest.raises(AttnprofError, match=message):
            ask(**options)


# ---- the snippet --------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [c.name for c in COMPONENTS if c.kind == "attention"] + ["pooled:2+sdpa-pad+fp16"])
def test_the_snippet_runs_and_keeps_the_weights(strategy):
    torch.manual_seed(0)
    old = SaganBlock(16, reduction=4).eval()
    torch.nn.init.ones_(old.gamma)
    scope = {"old": old}
    exec(snippet(strategy), scope)
    new, x = scope["new"], torch.randn(2, 16, 6, 6)
    assert not new.training
    assert all(torch.allclose(new.state_dict()[name].float(), p, atol=1e-3) for name, p in old.state_dict().items())
    if new.strategy.exact:
        torch.testing.assert_close(new(x), old(x)[0])
    assert ("need training again" in snippet(strategy)) == new.strategy.another_attention
    assert max(map(len, snippet(strategy).splitlines())) <= 79


@pytest.mark.parametrize("block", [form.name for form in BLOCKS if form.name != "sagan"])
def test_the_snippet_for_another_block_patches_a_model_or_makes_a_block(block, capsys):
    model = torch.nn.Sequential(block_form(block).build(16, "naive"), torch.nn.ReLU())
    exec(snippet("chunked", block), {"model": model})
    assert capsys.readouterr().out.startswith("1 block patched with chunked")
    assert str(model[0].strategy) == "chunked"
    scope = {"channels": 16}
    exec(snippet("sdpa-pad+fp16", block), scope)
    assert type(scope["new"]) is type(model[0])
    assert {p.dtype for p in scope["new"].parameters()} == {torch.float16}


# ---- the command --------------------------------------------------------------------------------------


def recommend(*arguments):
    command = [sys.executable, "-m", "attnprof", "recommend", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_measured_here(tmp_path):
    some = ["--device", "cpu", "--hw", "8", "--channels", "16", "--strategy", "naive,chunked,pooled:2",
            "--timeout", "60", "--mode", "forward", "--out", tmp_path / "r.jsonl"]  # fmt: skip
    fits = recommend(*some, "--budget", "4MB", "--format", "json")
    assert fits.returncode == 0, fits.stderr
    answer = json.loads(fits.stdout)
    assert (answer["source"], answer["total_bytes"]) == ("measured", 4_000_000)
    assert all(option["seconds_measured"] for option in answer["options"])
    largest = answer["largest_map"]
    assert largest["is_the_limit"]
    assert largest["height"] % 8 == 0
    again = recommend(*some, "--budget", "4MB", "--resume", "--format", "json")
    assert [o["seconds"] for o in json.loads(again.stdout)["options"]] == [o["seconds"] for o in answer["options"]]


def test_nothing_fits_here_and_says_what_would(tmp_path):
    some = ["--device", "cpu", "--hw", "16", "--channels", "16", "--batch", "4", "--strategy", "naive,chunked"]
    done = recommend(*some, "--mode", "forward", "--budget", "1MiB", "--margin", "0", "--out", tmp_path / "r.jsonl")
    assert done.returncode == 3, done.stderr
    assert "Nothing exact fits 4x16x16x16 fp32 forward in 1.00 MiB" in done.stdout
    assert "- a map of 8x8: " in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "Traceback" not in done.stderr


def test_on_an_emulated_card(on_card, tmp_path):
    done = recommend("--gpu", "t4", "--hw", "256", "--batch", "8", "--out", tmp_path / "r.jsonl", "--format", "json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    options = {option["strategy"]: option for option in answer["options"]}
    assert answer["source"] == "emulated"
    assert options[answer["pick"]]["exact"]
    # Five N x N matrices of floats: what it takes is known though no card has it.
    matrices = 5 * 8 * 4 * (256 * 256) ** 2
    assert matrices < options["naive"]["need_bytes"] < 1.05 * matrices
    assert options["naive"]["why_not"].startswith("over by")
    assert not any(option["seconds_measured"] for option in options.values())
    assert options["sdpa-pad"]["seconds"] > 0
    assert options["sdpa-pad"]["max_rel_error"] is None
    assert answer["largest_batch"]["is_the_limit"]
    assert answer["largest_batch"]["batch"] > 8


def test_bad_input_is_one_clear_line():
    done = recommend("--format", "xml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.strip() == "attnprof: format: 'xml' is not one of table, csv, json, markdown"
    done = subprocess.run([sys.executable, "-m", "attnprof", "snippet", "sdpa-pat"], capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'sdpa-pad'" in done.stderr
