"""Every page that a command prints, on made-up results, with texts that a test chooses."""

import dataclasses
from datetime import datetime, timezone
from pathlib import Path

from attnprof.attention import BLOCKS, COMPONENTS
from attnprof.cases.axis import Axis, Threshold
from attnprof.cases.capacity import Capacity
from attnprof.cases.cards import catalogue, parse_cards
from attnprof.cases.case import AS_IS, Case
from attnprof.cases.measurement import Kernel, Measurement, Outcome, StepPeak
from attnprof.cases.record import Record
from attnprof.cases.workload import ModelWorkload, Workload
from attnprof.emulation.watch.findings import (
    Ending,
    Line,
    LineHolder,
    OutOfMemory,
    ProcessFindings,
    Raised,
    ReadCounts,
    ReadLine,
)
from attnprof.report.blocks import blocks_page
from attnprof.report.doctor import doctor_page
from attnprof.report.gpus import cards_page
from attnprof.report.limits import limits_page
from attnprof.report.model import model_page
from attnprof.report.program import program_page
from attnprof.report.recommend import recommend_page
from attnprof.report.records import files_page
from attnprof.report.strategies import strategies_page
from attnprof.report.sweep import sweep_page
from attnprof.studies.doctor import Finding
from attnprof.studies.kept_records import KeptFile
from attnprof.studies.model import ModelProfile
from attnprof.studies.program import ProgramRun
from attnprof.studies.recommend.ranking import rank
from attnprof.studies.recommend.recommendation import Recommendation
from support.samples import ENVIRONMENT, MIB, SETTINGS, emulated, emulated_records, measurement, record, sweep_records

GIB = 2**30
NAMES = ("naive", "naive+checkpoint", "online:123456789x123456789", "pooled:2+sdpa-split+checkpoint+bf16")


def every_page(text="what a file says"):
    """Return the pages by name; `text` stands wherever something comes from a file, an environment or a program."""
    environment = dataclasses.replace(ENVIRONMENT, device_name=text)
    measured = [record(name, peak_mib=9**place, seconds=7.0**place, kernel=Kernel("math", {"flash": text}),
                       notes=[text], environment=environment) for place, name in enumerate(NAMES, 1)]  # fmt: skip
    failed = record("sdpa", Outcome.CRASHED, reason=text, environment=environment)
    return {
        "sweep, measured": sweep_page([*measured, failed, *sweep_records()]),
        "sweep, a card": sweep_page([*emulated_records("t4"), emulated("t4", NAMES[2], 10**12)]),
        "sweep, cards": sweep_page(emulated_records("t4", "l4", "rtx4060ti-16gb", "t4,memory=8.123456789GB")),
        "limits": limits_page([_threshold(name, text) for name in NAMES]),
        "recommend": recommend_page(_recommendation(text)),
        "model": model_page([_profile(text)]),
        "program": program_page(_program(text)),
        "gpus": cards_page([card for card in catalogue() if card.key in ("t4", "rtx4060ti-16gb")]),
        "strategies": strategies_page(COMPONENTS),
        "blocks": blocks_page(BLOCKS),
        "records": files_page([_file(text, measured), _file(text, (), problem=text)], text),
        "doctor": doctor_page([Finding("torch", text), Finding("limitations", text, False, text)]),
    }


def _file(text, records, problem=""):
    return KeptFile(Path(text), datetime(2026, 11, 24, tzinfo=timezone.utc), 10**12, tuple(records), problem, False)


def _threshold(name, text):
    found = emulated("t4", name, 900)
    return Threshold(
        Axis("hw", Workload(1, 128, 1, 1)), name, 12345, 12346, Outcome.TIMED_OUT, text, 10**15, 1.99, 123, found
    )


def _recommendation(text):
    records = [emulated("t4", name, peak) for name, peak in zip(NAMES, (None, 800, 12345, 5), strict=True)]
    noted = dataclasses.replace(records[1].measurement, notes=(text,))
    records[1] = dataclasses.replace(records[1], measurement=noted)
    ranking = rank(records, Capacity(16 * GIB, GIB), needs={"naive": 10**18})
    return Recommendation(ranking, records[1])


def _profile(text):
    workload = ModelWorkload(8, 1, 1, 1, mode="train", target=f"{text}.py:Net", inputs="3x256x256", optimizer="adam")
    peak = StepPeak("backward", f"{text}.attn", "aten.mul", 9 * GIB, {"activations": GIB}, {f"{text}.a": GIB, "b.c": 1})
    names = (AS_IS, *NAMES[1:])
    records = tuple(
        Record(
            case=Case(workload, name),
            outcome=Outcome.COMPLETED,
            measurement=dataclasses.replace(measurement(99), peak=peak, patched=(f"{text}.attn",), notes=(text,)),
            environment=dataclasses.replace(ENVIRONMENT, device_name=text),
            settings=SETTINGS,
            time="2026-01-01T00:00:00+00:00",
        )
        for name in names
    )
    failed = dataclasses.replace(records[0], outcome=Outcome.OUT_OF_MEMORY, measurement=Measurement(peak=peak))
    return ModelProfile(workload, (failed, *records[1:]), {AS_IS: 40 * GIB}, not_searched=text)


def _program(text):
    line = Line(f"/srv/{text}.py", 14, text, text)
    holders = (
        LineHolder(line, line, "", 9 * GIB, 2, 8 * GIB, "8x16384x16384 float32"),
        *(LineHolder(None, None, "backward", GIB, 12345, MIB) for _ in range(2)),
    )
    failure = OutOfMemory(text, GIB, 2, "forward", text, (line,), GIB, GIB, holders)
    raised = Raised(text, f"{text}\n{text}", (line,), thread=text)
    one = ProcessFindings(
        12, text, torch=text, used_cuda=True, peak_allocated_bytes=GIB, peak_reserved_bytes=GIB, steps=2,
        peaks_so_far={1: GIB}, out_of_memory_count=2, out_of_memory=failure,
        read_lines=(ReadLine(line, line, ReadCounts(made_up=3), "branch", line),),
        unknown=(text,), assumed=(text,), notes=(text,), ending=Ending(1.0, raised, 1, "", text, (line,)),
        thread_errors=(raised,),
    )  # fmt: skip
    other = dataclasses.replace(one, pid=13, out_of_memory=None)
    return ProgramRun(parse_cards("t4")[0], ("python", text), 1, "2.14.1", (one, other), pid=12)
