"""The plan for a user's whole model: the model unmodified, and patched with each strategy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from attnprof.attention.strategy import StrategyError, parse_strategy
from attnprof.cases.case import AS_IS, Case
from attnprof.cases.parsing import require_known
from attnprof.cases.plan import Plan
from attnprof.cases.record_lines import open_regular
from attnprof.cases.workload import DTYPES, MODES, OPTIMIZERS, ModelWorkload
from attnprof.errors import AttnprofError
from attnprof.text import shown

_LARGEST_SOURCE_BYTES = 2**24


def make_model_plan(
    target: str,
    *,
    batch: int,
    inputs: str,
    strategies: Sequence[str],
    modes: Sequence[str],
    dtype: str,
    optimizer: str,
    amp: bool,
    checkpointing: bool,
    channels_last: bool,
) -> Plan:
    """Return the cases of a model, in each mode: unmodified first, then patched with each strategy.

    Args:
        target: `PATH.py:NAME` or `package.module:NAME`.
        batch: the batch of every input.
        inputs: the shapes, as `ModelWorkload.inputs` spells them.
        strategies: spellings; `as-is` may be among them and changes nothing.
        modes: of `forward` and `train`.
        dtype: of the model's parameters and inputs.
        optimizer: its states count in training.
        amp: whether forward runs in autocast.
        checkpointing: whether gradient checkpointing is on, in training.
        channels_last: whether images and weights are laid out in channels_last.

    Raises:
        AttnprofError: an unknown name, a target that names no model, or a file that cannot be read.
    """
    require_known("mode", modes, MODES)
    require_known("dtype", [dtype], DTYPES)
    require_known("optimizer", [optimizer], OPTIMIZERS)
    try:
        patched = dict.fromkeys(str(parse_strategy(name)) for name in strategies if name != AS_IS)
    except StrategyError as error:
        raise AttnprofError(str(error)) from None
    digest = _digest(target)
    workloads = [
        ModelWorkload(
            batch,
            1,
            1,
            1,
            dtype,
            mode,
            target=target,
            inputs=inputs,
            digest=digest,
            optimizer=optimizer if mode == "train" else "",
            amp=amp,
            checkpointing=checkpointing and mode == "train",
            channels_last=channels_last,
        )
        for mode in dict.fromkeys(modes)
    ]
    return Plan(tuple(Case(workload, strategy) for workload in workloads for strategy in (AS_IS, *patched)))


def _digest(target: str) -> str:
    """Return a digest of the target's file, so that records of another version of it are not reused."""
    if not isinstance(target, str):
        raise AttnprofError(
            f"model: give the place of the model as text, PATH.py:NAME or package.module:NAME, and not a "
            f"{type(target).__name__}: it is made anew in a process of its own for each case"
        )
    try:
        target.encode()
    except UnicodeEncodeError:
        raise AttnprofError(f"model: {shown(target)} has bytes that are not text; rename the file") from None
    place, colon, name = target.rpartition(":")
    if not (place and colon and name):
        raise AttnprofError(f"model: {shown(target)} names no model; write PATH.py:NAME or package.module:NAME")
    path = model_path(target)
    if path is None:
        return ""
    with os.fdopen(open_regular(path, os.O_RDONLY, "model"), "rb") as stream:
        if os.fstat(stream.fileno()).st_size > _LARGEST_SOURCE_BYTES:
            raise AttnprofError(f"model: {path} is too large for a file of Python; write PATH.py:NAME")
        return hashlib.sha256(stream.read()).hexdigest()[:12]


def model_path(target: str) -> Path | None:
    """Return the file of a target, or None if the target names a module by its import path."""
    place = target.rpartition(":")[0]
    return Path(place) if place.endswith(".py") else None
