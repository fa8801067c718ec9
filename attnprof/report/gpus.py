"""The page of `attnprof gpus`: the catalogue of cards."""

from __future__ import annotations

from collections.abc import Sequence

from attnprof.cases.cards import Card
from attnprof.report.grid import Column, Grid, Row
from attnprof.report.page import Field, Kind, Page, names_of, paragraphs, rows_of
from attnprof.units import format_bytes

FIELDS: tuple[Field[Card], ...] = (
    Field("key", lambda card: card.key, "The name that `--gpu` takes."),
    Field("name", lambda card: card.name, "The name that `torch.cuda.get_device_name` prints."),
    Field("where", lambda card: card.where, "Where people meet this card."),
    Field("compute_capability", lambda card: card.compute_capability, "CUDA compute capability."),
    Field("multiprocessors", lambda card: card.multiprocessors, "Number of multiprocessors."),
    Field("l2_cache_kib", lambda card: card.l2_cache_kib, "L2 cache, KiB."),
    Field("clock_mhz", lambda card: card.clock_mhz, "Clock of the multiprocessors, MHz."),
    Field("memory_clock_mhz", lambda card: card.memory_clock_mhz, "Clock of the memory, MHz."),
    Field("memory_bus_bits", lambda card: card.memory_bus_bits, "Width of the memory bus, bits."),
    Field(
        "threads_per_multiprocessor",
        lambda card: card.threads_per_multiprocessor,
        "Threads that a multiprocessor holds.",
    ),
    Field("blocks_per_multiprocessor", lambda card: card.blocks_per_multiprocessor, "Blocks that it holds."),
    Field("registers_per_multiprocessor", lambda card: card.registers_per_multiprocessor, "Registers that it has."),
    Field("shared_kib_per_multiprocessor", lambda card: card.shared_kib_per_multiprocessor, "Its shared memory, KiB."),
    Field("shared_kib_per_block", lambda card: card.shared_kib_per_block, "Shared memory a block may have, KiB."),
    Field("total_bytes", lambda card: card.total_bytes, "Least total memory that drivers report, bytes."),
    Field("total_max_bytes", lambda card: card.total_max_bytes, "Greatest total memory that drivers report, bytes."),
    Field("context_bytes", lambda card: card.context_bytes, "Allowance for the CUDA context, bytes (`--context`)."),
    Field("context_source", lambda card: card.context_source, "Where the allowance comes from."),
    Field("bandwidth_gb_s", lambda card: card.bandwidth_gb_s, "The vendor's memory bandwidth, GB/s."),
    Field("fp32_tflops", lambda card: card.fp32_tflops, "The vendor's float32 peak, TFLOPS."),
    Field(
        "fp16_tensor_tflops",
        lambda card: card.fp16_tensor_tflops,
        "The vendor's float16 peak on tensor cores, TFLOPS; empty without tensor cores.",
    ),
)
_COLUMNS = (
    Column("gpu"),
    Column("cc", right=True, leaves=4),
    Column("memory", right=True),
    Column("context", right=True),
    Column("GB/s", right=True, leaves=1),
    Column("fp32", right=True, leaves=3),
    Column("fp16", right=True, leaves=2),
    Column("where", folds=True, leaves=5),
)
_LEGENDS = (
    "cc: compute capability. memory: the least that drivers report. context: an allowance for the part of it that "
    "CUDA itself takes (--context).",
    "fp32, fp16: peak TFLOPS by the data sheet; fp16 on tensor cores.",
)


def cards_page(cards: Sequence[Card]) -> Page:
    """Make the page of these cards."""
    grid = Grid("GPUs that --gpu can emulate", _COLUMNS, tuple(map(_row, cards)))
    return Page(((grid,), paragraphs(Kind.LEGEND, _LEGENDS)), names_of(FIELDS), rows_of(FIELDS, cards))


def _row(card: Card) -> Row:
    rates = (card.bandwidth_gb_s, card.fp32_tflops, card.fp16_tensor_tflops)
    memory = (format_bytes(card.total_bytes), format_bytes(card.context_bytes))
    numbers = (f"{rate:.0f}" if rate else "-" for rate in rates)
    return Row((card.key, card.compute_capability, *memory, *numbers, card.where))
