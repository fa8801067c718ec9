"""The page of a program's run, on made-up findings."""

import csv
import dataclasses
import io
import json

from support.drawing import drawn

from attnprof.cases.cards import parse_cards
from attnprof.emulation.watch.findings import (
    BACKWARD,
    BRANCH,
    GRADIENTS,
    Line,
    LineHolder,
    OutOfMemory,
    ProcessFindings,
    ProgramPeak,
    ReadCounts,
    ReadLine,
)
from attnprof.report.program import program_page
from attnprof.studies.program import ProgramRun

MIB, GIB = 2**20, 2**30
SOFTMAX = Line("/srv/train.py", 14, "forward", "attn = torch.softmax(energy, -1)")
STEP = Line("/srv/train.py", 40, "main", "loss.backward()")
HOLDERS = (
    LineHolder(SOFTMAX, None, "", 9 * GIB, 2, 8 * GIB, "8x16384x16384 float32"),
    LineHolder(None, None, BACKWARD, 2 * GIB, 3, GIB),
    LineHolder(None, None, GRADIENTS, 30 * MIB, 12, 9 * MIB),
)
FAILED = ProcessFindings(
    12,
    "python train.py",
    torch="2.14.1",
    used_cuda=True,
    ended=True,
    peak_allocated_bytes=11 * GIB,
    peak_reserved_bytes=12 * GIB,
    peak_step=3,
    steps=2,
    optimizers=1,
    peaks_so_far={1: 10 * GIB, 2: 11 * GIB},
    out_of_memory_count=1,
    out_of_memory=OutOfMemory(
        "CUDA out of memory. Tried to allocate 8.00 GiB.",
        8 * GIB,
        2,
        "backward",
        "SoftmaxBackward0",
        (STEP,),
        11 * GIB + 30 * MIB,
        12 * GIB,
        HOLDERS,
    ),
    reads=ReadCounts(made_up=3),
    read_lines=(
        ReadLine(Line("/srv/train.py", 41, "main", "if loss.item() > 9:"), None, ReadCounts(made_up=3), BRANCH),
    ),
)
RAN = ProcessFindings(
    13,
    "python worker.py",
    torch="2.14.1",
    used_cuda=True,
    ended=False,
    peak_allocated_bytes=GIB,
    peak_reserved_bytes=GIB,
    steps=0,
    peak=ProgramPeak(0, GIB, None, HOLDERS[1:]),
)


def run(*processes):
    return ProgramRun(parse_cards("t4")[0], ("python", "train.py"), 1, "2.14.1", processes)


FAILURE = """\
python train.py - t4: 14.6 GiB, CUDA context 137 MiB (emulated)
Out of memory in optimizer step 3, in backward (SoftmaxBackward0), allocating
8.00 GiB:
  /srv/train.py:40  loss.backward()
  CUDA out of memory. Tried to allocate 8.00 GiB.
peak allocated   11.0 GiB, after step 2
peak reserved    12.0 GiB, with the context 12.1 GiB: 83% of the card
optimizer steps  2; peak so far: 10.0 GiB after 1, 11.0 GiB after 2
values read      3 made up
Warning: one line decides a branch or a size by values that emulation made up,
so a card may go another way or need other memory:
  /srv/train.py:41  if loss.item() > 9:  (a branch, 3 times)

Lines that held 11.0 GiB when memory ran out
   holds  blocks   largest  allocated at
────────────────────────────────────────────────────────────────────────────────
9.00 GiB       2  8.00 GiB  /srv/train.py:14  attn = torch.softmax(energy, -1)
                            [8x16384x16384 float32]
2.00 GiB       3  1.00 GiB  backward
30.0 MiB      12  9.00 MiB  gradients of parameters

made up: depends on tensors whose values are not computed.
"""
PEAK = """\
python train.py - t4: 14.6 GiB, CUDA context 137 MiB (emulated)
peak allocated   at least 1.00 GiB
peak reserved    at least 1.00 GiB, with the context 1.13 GiB: 8% of the card
optimizer steps  none finished

Lines that held 1.00 GiB at the peak
   holds  blocks   largest  allocated at
───────────────────────────────────────────────────
2.00 GiB       3  1.00 GiB  backward
30.0 MiB      12  9.00 MiB  gradients of parameters

The process was killed or left through os._exit: anything after its last report
is missing.
"""
NOTHING = """\
python train.py - t4: 14.6 GiB, CUDA context 137 MiB (emulated)

The program sent no report: it does not import torch, or it runs Python with -I,
-E or -S, which keep attnprof out.
"""


def test_a_program_that_ran_out_of_memory():
    assert drawn(program_page(run(FAILED))) == FAILURE


def test_a_program_that_was_killed():
    assert drawn(program_page(run(RAN))) == PEAK


def test_a_program_without_a_report():
    assert drawn(program_page(run())) == NOTHING


def test_a_signal_and_what_is_no_report_are_told():
    killed = dataclasses.replace(run(), exit_code=137, signal="SIGKILL")
    text = " ".join(drawn(program_page(killed)).split())
    assert text.endswith(
        "The program was killed by signal SIGKILL, perhaps because this machine ran out of memory. The program sent no "
        "report."
    )
    inside = dataclasses.replace(run(), exit_code=139, unread=("a.json: not JSON", "b", "c", "d", "e"))
    text = " ".join(drawn(program_page(inside)).split())
    assert "Exit code 139 means that signal SIGSEGV killed what the program ran. The program sent no report." in text
    assert text.endswith("Not read: a.json: not JSON. Not read: b. Not read: c. Not read: 2 other files.")


def test_a_part_of_another_version_is_shown_as_it_is():
    backward = HOLDERS[1]
    other = dataclasses.replace(backward, part="a later part")
    found = dataclasses.replace(FAILED, out_of_memory=dataclasses.replace(FAILED.out_of_memory, holders=(other,)))
    assert "a later part" in drawn(program_page(run(found)))


def test_of_several_processes_the_one_that_failed_is_shown():
    text = drawn(program_page(run(RAN, FAILED)))
    assert "2 processes used CUDA, and each saw a card of its own." in text
    assert "     13  >= 1.00 GiB   >= 1.13 GiB  python worker.py" in text
    assert text.index("Process 12:") < text.index("Out of memory in optimizer step 3")


def test_csv_has_a_row_a_process():
    failed, ran = csv.DictReader(io.StringIO(program_page(run(FAILED, RAN)).csv()))
    assert (failed["pid"], failed["source"], failed["gpu"]) == ("12", "emulated", "t4")
    assert failed["out_of_memory_at"] == "/srv/train.py:40  loss.backward()"
    assert int(failed["requested_bytes"]) == 8 * GIB
    assert int(failed["largest_holder_bytes"]) == 9 * GIB
    assert (ran["largest_holder"], ran["ended"], ran["out_of_memory_at"]) == ("backward", "False", "")


def test_json_has_everything():
    answer = json.loads(program_page(run(FAILED)).json())
    assert (answer["gpu"], answer["exit_code"], answer["command"]) == ("t4", 1, ["python", "train.py"])
    [process] = answer["processes"]
    assert process["taken_bytes"] == process["peak_reserved_bytes"] + answer["context_bytes"]
    assert process["out_of_memory"]["holders"][0]["line"]["line"] == 14


def test_markdown_quotes_lines_of_the_program():
    text = program_page(run(FAILED)).markdown()
    assert "```\n/srv/train.py:40  loss.backward()\nCUDA out of memory." in text
    assert "| 9.00 GiB | 2 | 8.00 GiB | /srv/train.py:14" in text


def test_the_peak_of_steps_without_trials_of_plans_has_a_line_of_its_own():
    tried = dataclasses.replace(
        RAN, ended=True, steps=4, peak_step=1, plan_trials=3, peak_without_trials_bytes=300 * MIB
    )
    text = drawn(program_page(run(tried)))
    assert "peak allocated   1.00 GiB, in step 1\nin other steps   300 MiB: in these, PyTorch tries no plans" in text
    for other in (
        dataclasses.replace(tried, plan_trials=0),
        dataclasses.replace(tried, peak_without_trials_bytes=None),
    ):
        assert "in other steps" not in drawn(program_page(run(other)))
