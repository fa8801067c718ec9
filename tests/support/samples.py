"""Records with made-up numbers, for what reads records."""

import dataclasses

from attnprof.cases.case import Case
from attnprof.cases.environment import Environment
from attnprof.cases.measurement import Exactness, Kernel, Measurement, Memory, Outcome, Source
from attnprof.cases.record import Record
from attnprof.cases.workload import Workload
from attnprof.measure.worker.passes.latency import summarize

MIB = 2**20
ENVIRONMENT = Environment(
    attnprof="0",
    torch="2",
    python="3.12",
    platform="Linux x86_64",
    threads=2,
    matmul_precision="highest",
    device="cpu",
    device_name="Test CPU",
)
SETTINGS = {"seed": 0, "budget_bytes": None, "case_seconds": 1.0, "timeout_seconds": 300.0}


def case(strategy="naive", side=64, mode="forward", **workload):
    return Case(
        Workload(**{"batch": 1, "channels": 128, "height": side, "width": side, "mode": mode, **workload}), strategy
    )


def measurement(peak_mib=100, seconds=0.1, error=1e-7, kernel=None, notes=()):
    return Measurement(
        memory=Memory(
            2 * MIB, peak_mib * MIB - 2 * MIB, 0, peak_mib * MIB - 2 * MIB, peak_mib * MIB, None, None, None, 5
        ),
        latency=summarize((seconds, seconds * 1.02, seconds * 0.98), 1),
        exactness=Exactness(error, error, None, 512),
        kernel=kernel,
        flops=10**9,
        matmul_flops_per_second=1e11,
        passes_seconds={"memory": 0.1},
        notes=tuple(notes),
    )


def record(strategy="naive", outcome=Outcome.COMPLETED, *, reason="", implied_by="", environment=None, **options):
    workload = {k: options.pop(k) for k in ("side", "mode", "batch", "channels", "dtype") if k in options}
    return Record(
        case=case(strategy, **workload),
        outcome=outcome,
        measurement=measurement(**options) if outcome is Outcome.COMPLETED else Measurement(),
        environment=environment or ENVIRONMENT,
        settings=SETTINGS,
        time="2026-01-01T00:00:00+00:00",
        reason=reason,
        implied_by=implied_by,
    )


def sweep_records():
    math = Kernel("math", {"flash": "query/key and value dims differ"})
    return [
        record("naive", peak_mib=150, seconds=0.2),
        record("chunked", peak_mib=14, seconds=0.05),
        record("sdpa", peak_mib=160, seconds=0.13, kernel=math),
        record("sdpa-pad", peak_mib=13, seconds=0.052, kernel=Kernel("flash")),
        record("pooled:2", peak_mib=40, seconds=0.02, error=0.2, notes=["latency varies by 23%: close other programs"]),
        record("naive", Outcome.OUT_OF_MEMORY, reason="limit 1.00 GiB: can't allocate", side=256),
        record("chunked", peak_mib=100, seconds=9.5, side=256),
        record("sdpa", Outcome.OUT_OF_MEMORY, implied_by="1x128x128x128 fp32 forward", reason="implied by", side=256),
        record("pooled:2+sdpa-split+checkpoint+bf16", peak_mib=40, seconds=12.25, error=0.2, side=256),
        record("online", Outcome.TIMED_OUT, reason="no end after 300 s (--timeout)", side=256),
    ]


def emulated(card, strategy, peak_mib=None, kernel=None, outcome=Outcome.COMPLETED, total_gib=16, **workload):
    """A record of an emulated card; out of memory where no peak is given."""
    memory = None
    if peak_mib is None:
        outcome = Outcome.OUT_OF_MEMORY if outcome is Outcome.COMPLETED else outcome
    else:
        peak, reserved, context = peak_mib * MIB, (peak_mib + 10) * MIB, 100 * MIB
        memory = Memory(2 * MIB, peak - 2 * MIB, 0, peak - 2 * MIB, peak, reserved, reserved + context, context)
    environment = dataclasses.replace(
        ENVIRONMENT, device_name="Card", gpu=card, total_memory_bytes=total_gib * 2**30, context_bytes=100 * MIB
    )
    return Record(
        case=case(strategy, **workload),
        outcome=outcome,
        measurement=Measurement(memory=memory, kernel=kernel),
        environment=environment,
        settings=SETTINGS,
        time="2026-01-01T00:00:00+00:00",
        reason="" if memory else "CUDA out of memory" if outcome is Outcome.OUT_OF_MEMORY else "no kernel image",
        source=Source.EMULATED,
    )


def emulated_records(*cards):
    old = {"flash": "GPU too old"}
    records = []
    for card in cards:
        kernel = Kernel("efficient", old) if card.startswith("t4") else Kernel("flash")
        records += [
            emulated(card, "naive"),
            emulated(card, "online", 1912),
            emulated(card, "sdpa-pad", 2000, kernel),
            emulated(card, "pooled:2+sdpa-pad+fp16", 900, kernel),
            emulated(card, "sdpa", outcome=Outcome.UNSUPPORTED),
        ]
    return records
