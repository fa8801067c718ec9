"""Recommendations from a file; the snippet; and the command on real runs."""

import json
import subprocess
import sys

import pytest
import torch
from support.sagan import SaganBlock
from support.samples import MIB, emulated, record

from attnprof.attention import BLOCKS, COMPONENTS, block_form
from attnprof.cases.capacity import Capacity
from attnprof.cases.parsing import parse_margin
from attnprof.cases.record_file import RecordFile
from attnprof.errors import AttnprofError
from attnprof.report.recommend import recommend_page
from attnprof.studies.recommend.capacity import capacity_with_margin
from attnprof.studies.recommend.from_file import recommend_from_file
from attnprof.studies.recommend.snippet import snippet
from attnprof.studies.requests import recommend_study

ROOMY = Capacity(1000 * MIB, 100 * MIB)


def why(ranking):
    return {option.strategy: option.why_not for option in ranking.options}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hw": "32,64x96"}, "hw: recommend answers for one workload; choose one of 32x32, 64x96"),
        ({"mode": "forward,train"}, "mode: recommend answers for one workload; choose one of forward, train"),
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


# ---- from a file -------------------------------------------------------------------------------------


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
    assert "nothing was run" in recommend_page(found).markdown()
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


# ---- the snippet -------------------------------------------------------------------------------------


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


# ---- the command -------------------------------------------------------------------------------------


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
