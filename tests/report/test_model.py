"""What is said of a whole model, on made-up records; and the command on a real one."""

import csv
import dataclasses
import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from support.commands import attnprof_command
from support.models import NET
from support.samples import ENVIRONMENT, SETTINGS, measurement

from attnprof.cases.axis import Axis, Threshold
from attnprof.cases.case import AS_IS, Case
from attnprof.cases.measurement import Measurement, Outcome, Source, StepPeak
from attnprof.cases.record import Record
from attnprof.cases.record_lines import read_records
from attnprof.cases.workload import ModelWorkload
from attnprof.report.model import model_page
from attnprof.studies.model import ModelProfile

SUPPORT = Path(__file__).parents[1] / "support"
MIB, GIB = 2**20, 2**30
WORKLOAD = ModelWorkload(
    8, 1, 1, 1, mode="train", target="net.py:Net", inputs="3x256x256", optimizer="adam", amp=True, digest="abc"
)
CARD = dataclasses.replace(
    ENVIRONMENT,
    device="cuda:0",
    device_name="Tesla T4",
    gpu="t4",
    total_memory_bytes=16 * GIB,
    context_bytes=100 * MIB,
)
AT_ATTENTION = StepPeak(
    "backward", "stage.attn", "aten._softmax_backward_data", 9 * GIB,
    {"activation gradients": 5 * GIB, "activations": 3 * GIB, "parameters": GIB},
    {"stage.attn": 7 * GIB, "head": GIB},
)  # fmt: skip
AT_HEAD = StepPeak("optimizer step", "", "aten.mul", 2 * GIB, {"parameters": GIB, "activations": GIB}, {"head": GIB})
TABLE = """\
net.py:Net 8x3x256x256 fp32 train adam amp - t4: 16.0 GiB, CUDA context 100 MiB
(emulated)
strategy                 peak  reserved  largest batch
──────────────────────────────────────────────────────
as-is     OOM, needs 40.0 GiB                        3
sdpa-pad             2.00 GiB         -             60
~pooled           unsupported                        -

Memory held at the peak
at the peak                     as-is        sdpa-pad
─────────────────────────────────────────────────────
phase                   backward: OOM  optimizer step
in module                  stage.attn               -
allocated                    9.00 GiB        2.00 GiB
  activation gradients       5.00 GiB               -
  activations                3.00 GiB        1.00 GiB
  parameters                 1.00 GiB        1.00 GiB
made in module
  stage.attn                 7.00 GiB               -
  head                       1.00 GiB        1.00 GiB

Blocks patched by sdpa-pad: stage.attn
pooled on t4: unsupported (No block patched with pooled.)
sdpa-pad: peak 2.00 GiB instead of 40.0 GiB, which does not fit; a batch of 60
instead of 3.

~ marks an approximate strategy. "inside operators": their temporaries, and
workspaces without a row.
peak and reserved are of two steps, so gradients and optimizer state are in
them.
"""


def recorded(strategy, outcome=Outcome.COMPLETED, found=None, *, workload=WORKLOAD, emulated=True, reason=""):
    return Record(
        case=Case(workload, strategy), outcome=outcome, measurement=found or Measurement(),
        environment=CARD if emulated else ENVIRONMENT, settings=SETTINGS, time="2026-01-01T00:00:00+00:00",
        reason=reason, source=Source.EMULATED if emulated else Source.MEASURED,
    )  # fmt: skip


def searched(record, largest):
    axis = Axis("batch", WORKLOAD)
    return Threshold(axis, record.case.strategy, largest, largest + 1, Outcome.OUT_OF_MEMORY, "", 1, None, 5, record)


def emulated_profile():
    ran = dataclasses.replace(measurement(2 * 1024), latency=None, peak=AT_HEAD, patched=("stage.attn",))
    records = (
        recorded(AS_IS, Outcome.OUT_OF_MEMORY, Measurement(peak=AT_ATTENTION), reason="CUDA out of memory"),
        recorded("sdpa-pad", found=ran),
        recorded("pooled", Outcome.UNSUPPORTED, reason="No block patched with pooled."),
    )
    largest = {AS_IS: searched(records[0], 3), "sdpa-pad": searched(records[1], 60)}
    return ModelProfile(WORKLOAD, records, {AS_IS: 40 * GIB}, largest)


def text_of(profile, width=80):
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(model_page([profile]).table())
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"


def test_a_profile_is_a_page_of_80_columns():
    assert text_of(emulated_profile()) == TABLE


def test_a_measured_model_has_its_time_and_says_why_no_batch_was_looked_for():
    forward = dataclasses.replace(WORKLOAD, mode="forward", optimizer="")
    records = tuple(
        recorded(name, found=measurement(peak, seconds), workload=forward, emulated=False)
        for name, peak, seconds in ((AS_IS, 500, 0.2), ("chunked", 100, 0.1))
    )
    text = text_of(ModelProfile(forward, records, not_searched="this device has no end of its own"))
    assert "a step" in text
    assert "200 ms" in text
    assert "Largest batch not searched: this device has no end of its own" in text
    assert "chunked: peak 100 MiB instead of 500 MiB." in text
    assert "gradients and optimizer state" not in text


def test_data_has_bytes_and_the_modules():
    [as_is, ran, failed] = json.loads(model_page([emulated_profile()]).json())
    assert (as_is["outcome"], as_is["need_bytes"], as_is["largest_batch"]) == ("out_of_memory", 40 * GIB, 3)
    assert (as_is["peak_phase"], as_is["peak_module"]) == ("backward", "stage.attn")
    assert as_is["modules"] == {"stage.attn": 7 * GIB, "head": GIB}
    assert (ran["peak_allocated_bytes"], ran["smallest_oom_batch"], ran["patched"]) == (2 * GIB, 61, "stage.attn")
    assert (failed["exact"], failed["reason"]) == (False, "No block patched with pooled.")
    rows = list(csv.DictReader(io.StringIO(model_page([emulated_profile()]).csv())))
    assert rows[0]["held"] == f"activation gradients: {5 * GIB}; activations: {3 * GIB}; parameters: {GIB}"
    assert [row["optimizer"] for row in rows] == ["adam"] * 3
    assert "| sdpa-pad | 2.00 GiB |" in model_page([emulated_profile()]).markdown()


def test_a_record_of_a_model_survives_the_file():
    [as_is, ran, _] = emulated_profile().records
    for record in (as_is, ran):
        again = Record.from_line(record.to_line())
        assert again == record
        assert isinstance(again.case.workload, ModelWorkload)


def test_an_interrupted_profile_says_that_no_batch_was_searched():
    [as_is, ran, _] = emulated_profile().records
    assert "Largest batch not searched: interrupted before" in text_of(
        ModelProfile(WORKLOAD, (as_is, ran), not_searched="interrupted before")
    )


ATTENTION = """

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from sagan import SaganBlock


class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.attn = SaganBlock(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        x, attention = self.attn(self.stem(x))
        return self.head(x.mean((2, 3)))
"""


@pytest.fixture
def net(tmp_path):

    (tmp_path / "net.py").write_text(NET + ATTENTION)
    (tmp_path / "sagan.py").write_text((SUPPORT / "sagan.py").read_text())
    return tmp_path / "net.py"


def test_a_real_model_is_measured_as_it_is_and_patched(net, tmp_path):
    done = attnprof_command(
        "model", f"{net}:Attends", "--input", "4,3,40,40", "--device", "cpu", "--case-seconds", "0.05",
        "--strategy", "chunked", "--format", "json", "--out", tmp_path / "r.jsonl",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    as_is, chunked = json.loads(done.stdout)
    scores = 4 * 1600 * 1600 * 4
    assert as_is["peak_allocated_bytes"] - chunked["peak_allocated_bytes"] > 2 * scores
    assert as_is["peak_module"].startswith("attn")
    assert (as_is["patched"], chunked["patched"]) == (None, "attn")
    assert chunked["latency_median_seconds"] > 0
    assert [record.case.strategy for record in read_records(tmp_path / "r.jsonl")] == ["as-is", "chunked"]


def test_the_largest_batch_within_a_budget(net):
    done = attnprof_command(
        "model", f"{net}:Attends", "--input", "1,3,40,40", "--device", "cpu", "--case-seconds", "0.05", "--budget",
        "200MB", "--strategy", "as-is", "--mode", "forward", "--format", "json",
    )  # fmt: skip
    [as_is] = json.loads(done.stdout)
    scores = 4 * 1600 * 1600
    # The scores and their softmax, of each image, and little else.
    assert as_is["largest_batch"] in {200_000_000 // (2 * scores), 200_000_000 // (2 * scores) - 1}
    assert as_is["smallest_oom_batch"] == as_is["largest_batch"] + 1


def test_a_model_that_fails_is_told_once_with_its_line(net):
    failed = attnprof_command("model", f"{net}:Fails", "--input", "8,1000", "--device", "cpu")
    assert failed.returncode == 1
    assert failed.stderr.count("net.py, line 17, in forward: return super().forward(x) @ torch.zeros(4, 5)") == 1
    assert "Traceback" not in failed.stderr
    assert failed.stdout == ""
