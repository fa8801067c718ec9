"""`attnprof.sweep`: the command's sweep from Python."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import pandas as pd

from attnprof.cases.record_file import RecordFile
from attnprof.progress import progress_on_stderr
from attnprof.report.rows import COLUMNS, tidy_row
from attnprof.studies.requests import SweepRequest
from attnprof.studies.sweep import in_order, run_plan

Values = str | int | Iterable[str | int]


def sweep(
    hw: Values = SweepRequest.hw,
    *,
    batch: Values = SweepRequest.batch,
    channels: Values = SweepRequest.channels,
    strategy: Values = SweepRequest.strategy,
    block: Values = SweepRequest.block,
    mode: Values = SweepRequest.mode,
    dtype: Values = SweepRequest.dtype,
    gpu: Values | None = SweepRequest.gpu,
    **options: Any,
) -> pd.DataFrame:
    """Measure every combination and return a tidy row a case: the columns of `attnprof sweep --csv`.

    Args:
        hw: sizes, as `"64,64x96"` or `[64, "64x96"]`.
        batch, channels: numbers, as `"1,4"` or `[1, 4]`.
        strategy: spellings, as `"naive,pooled:2+sdpa-pad"` or a list of them.
        block: of `sagan`, `sagan-official`, `danet` and `nonlocal`; see `attnprof.attention.blocks`.
        mode: of `forward` and `train`.
        dtype: of `fp32`, `fp16`, `bf16` and `fp64`.
        gpu: cards to emulate instead of measuring, as `"t4,l4"` or `["t4,memory=8GB", "l4"]`.
        **options: `device`, `context`, `budget`, `case_seconds`, `timeout`, `seed`, `reduction`, `out` and `resume`
            as on the command line.

    Raises:
        AttnprofError: a value that means nothing, a device that is not here, a file that cannot be
            resumed or written.
    """
    request = SweepRequest(
        hw=_spelled(hw),
        batch=_spelled(batch),
        channels=_spelled(channels),
        strategy=_spelled(strategy),
        block=_spelled(block),
        mode=_spelled(mode),
        dtype=_spelled(dtype),
        gpu=None if gpu is None else _spelled(gpu),
        **options,
    )
    plan, settings, cards = request.plan(), request.settings(), [str(card) for card in request.cards()]
    path = request.path()
    with progress_on_stderr(plan, max(1, len(cards))) as progress, ExitStack() as stack:
        runners = [stack.enter_context(runner) for runner in request.runners(progress.tell)]
        file = stack.enter_context(RecordFile(path, resume=request.resume))
        records = list(run_plan(plan, settings, runners, file, progress))
    frame: pd.DataFrame = pd.DataFrame(
        [tidy_row(record) for record in in_order(records, plan, cards)], columns=list(COLUMNS)
    )
    return frame


def _spelled(values: Values) -> str:
    return values if isinstance(values, str) else ",".join(map(str, [values] if isinstance(values, int) else values))
