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
    Ending,
    Line,
    LineHolder,
    OutOfMemory,
    ProcessFindings,
    ProgramPeak,
    Raised,
    ReadCounts,
    ReadLine,
)
from attnprof.report.program import program_page
from attnprof.studies.program import ProgramRun

MIB, GIB = 2**20, 2**30
SOFTMAX = Line("/srv/train.py", 14, "forward", "attn = torch.softmax(energy, -1)")
STEP = Line("/srv/train.py", 40, "main", "loss.backward()")
FAILED_MESSAGE = "CUDA out of memory. Tried to allocate 8.00 GiB."
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
        FAILED_MESSAGE,
        8 * GIB,
        2,
        "backward",
        "SoftmaxBackward0",
        (STEP,),
        11 * GIB + 30 * MIB,
        12 * GIB,
        HOLDERS,
    ),
    ending=Ending(
        9.0, Raised("torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 8.00 GiB.", (), "", True)
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
    pid = processes[0].pid if processes else 1
    return ProgramRun(parse_cards("t4")[0], ("python", "train.py"), 1, "2.14.1", processes, pid=pid)


FAILURE = """\
Out of memory in optimizer step 3, in backward (SoftmaxBackward0), allocating
8.00 GiB:
  /srv/train.py:40  loss.backward()
  CUDA out of memory. Tried to allocate 8.00 GiB.

python train.py - t4: 14.6 GiB, CUDA context 137 MiB (emulated)
peak allocated   at least 11.0 GiB, after step 2
peak reserved    at least 12.0 GiB, with the context 12.1 GiB: 83% of the card
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
Killed by signal SIGKILL before the first optimizer step was done, perhaps
because this machine ran out of memory.
python train.py - t4: 14.6 GiB, CUDA context 137 MiB (emulated)
peak allocated   at least 1.00 GiB
peak reserved    at least 1.00 GiB, with the context 1.13 GiB: 8% of the card
optimizer steps  none finished

Lines that held 1.00 GiB at the peak
   holds  blocks   largest  allocated at
───────────────────────────────────────────────────
2.00 GiB       3  1.00 GiB  backward
30.0 MiB      12  9.00 MiB  gradients of parameters

The process wrote no last report: anything after the one before is missing.
"""
NOTHING = """\
Ended with exit code 1 and sent no report: it started no Python, or Python with
-I, -E or -S, which keep attnprof out.
python train.py - t4: 14.6 GiB, CUDA context 137 MiB (emulated)
"""


def test_a_program_that_ran_out_of_memory():
    assert drawn(program_page(run(FAILED))) == FAILURE


def test_a_program_that_was_killed():
    killed = dataclasses.replace(run(RAN), exit_code=137, signal="SIGKILL")
    assert drawn(program_page(killed)) == PEAK


def test_a_program_without_a_report():
    assert drawn(program_page(run())) == NOTHING


def test_a_signal_and_what_is_no_report_are_told():
    killed = dataclasses.replace(run(), exit_code=137, signal="SIGKILL")
    text = " ".join(drawn(program_page(killed)).split())
    assert text.startswith("Killed by signal SIGKILL, perhaps because this machine ran out of memory. python")
    inside = dataclasses.replace(run(), exit_code=139, unread=("a.json: not JSON", "b", "c", "d", "e"))
    text = " ".join(drawn(program_page(inside)).split())
    assert text.startswith("Exit code 139 before it used the card: signal SIGSEGV killed what the program ran. python")
    assert text.endswith("Not read: a.json: not JSON. Not read: b. Not read: c. Not read: 2 other files.")


def test_a_part_of_another_version_is_shown_as_it_is():
    backward = HOLDERS[1]
    other = dataclasses.replace(backward, part="a later part")
    found = dataclasses.replace(FAILED, out_of_memory=dataclasses.replace(FAILED.out_of_memory, holders=(other,)))
    assert "a later part" in drawn(program_page(run(found)))


def test_of_several_processes_the_one_that_failed_is_shown():
    text = drawn(program_page(run(RAN, FAILED)))
    assert text.startswith("Ended with exit code 1 before the first optimizer step was done.")
    assert "Process 12 (python train.py) failed first:\nOut of memory in optimizer step 3" in text
    assert "2 processes used CUDA, and each saw a card of its own." in text
    assert "     13  >= 1.00 GiB   >= 1.13 GiB  python worker.py" in text
    assert text.index("Process 12:") < text.index("when memory ran out")


def test_csv_has_a_row_a_process():
    failed, ran = csv.DictReader(io.StringIO(program_page(run(FAILED, RAN)).csv()))
    assert (failed["pid"], failed["source"], failed["gpu"]) == ("12", "emulated", "t4")
    assert failed["out_of_memory_at"] == "/srv/train.py:40  loss.backward()"
    assert int(failed["requested_bytes"]) == 8 * GIB
    assert int(failed["largest_holder_bytes"]) == 9 * GIB
    assert (ran["largest_holder"], ran["ended"], ran["out_of_memory_at"]) == ("backward", "False", "")
    assert (failed["end"], failed["exit_code"], failed["peak_is_lower_bound"]) == ("out_of_memory", "1", "True")
    assert (ran["end"], ran["exit_code"], ran["peak_is_lower_bound"]) == ("killed", "", "True")


def test_an_error_that_the_program_caught_did_not_end_it():
    caught = dataclasses.replace(FAILED, ending=Ending(), out_of_memory_count=2)
    text = drawn(program_page(dataclasses.replace(run(caught), exit_code=0)))
    assert text.startswith("Finished.\npython train.py")
    assert "peak allocated   11.0 GiB" in text
    words = "The program ran out of memory 2 times and caught the error, first in optimizer step 3, in backward"
    assert words in " ".join(text.split())


def test_json_has_everything():
    answer = json.loads(program_page(run(FAILED)).json())
    assert (answer["gpu"], answer["exit_code"], answer["command"]) == ("t4", 1, ["python", "train.py"])
    assert (answer["end"], answer["pid"], answer["interrupted"]) == ("out_of_memory", 12, "")
    [process] = answer["processes"]
    assert (process["end"], process["peak_is_lower_bound"]) == ("out_of_memory", True)
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
    text = drawn(program_page(dataclasses.replace(run(tried), exit_code=0)))
    assert "peak allocated   1.00 GiB, in step 1\nin other steps   300 MiB: in these, PyTorch tries no plans" in text
    for other in (
        dataclasses.replace(tried, plan_trials=0),
        dataclasses.replace(tried, peak_without_trials_bytes=None),
    ):
        assert "in other steps" not in drawn(program_page(run(other)))


def test_the_range_over_plans_is_shown_or_offered():
    tried = dataclasses.replace(
        RAN, ended=True, steps=4, peak_step=1, plan_trials=3, peak_without_trials_bytes=GIB // 2
    )
    offer = "With --plans range, the program runs with the plans of the least and of the largest workspace too."
    alone = run(tried)
    assert offer in " ".join(drawn(program_page(alone)).split())
    larger = dataclasses.replace(
        tried, peak_allocated_bytes=3 * GIB, peak_without_trials_bytes=2 * GIB, out_of_memory=FAILED.out_of_memory
    )
    ends = (dataclasses.replace(alone, plans="least"), dataclasses.replace(run(larger), plans="largest"))
    text = " ".join(drawn(program_page(dataclasses.replace(alone, plan_range=ends))).split())
    assert "any plans 1.00 GiB to 3.00 GiB; in other steps 512 MiB to 2.00 GiB; with the largest workspaces" in text
    assert offer not in text
    assert offer not in " ".join(drawn(program_page(dataclasses.replace(alone, plans="least"))).split())
