"""The page of `attnprof recommend`: which variant to use, and why not the others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from attnprof.cases.axis import Threshold
from attnprof.cases.measurement import Outcome, Source
from attnprof.report.grid import Column, Grid, Row
from attnprof.report.page import Field, Kind, Page, Paragraph, names_of, paragraphs, rows_of
from attnprof.report.provenance import place_text
from attnprof.report.remarks import against_naive, another_attention_remarks, note_remarks, strategy_text
from attnprof.studies.recommend.ranking import Option, Ranking
from attnprof.studies.recommend.recommendation import Nearest, Recommendation
from attnprof.units import format_bytes, format_seconds

_LEGEND = (
    "needs: memory at the peak, on CUDA with the allocator's cache and the CUDA context. ~ marks an approximate "
    "strategy, and an estimated time."
)
_COLUMNS = (
    Column("strategy", folds=True),
    Column("needs", right=True),
    Column("share", right=True, leaves=1),
    Column("step time", right=True, leaves=2),
    Column("verdict", folds=True),
)


FIELDS: tuple[Field[tuple[Recommendation, Option]], ...] = (
    Field("strategy", lambda row: row[1].strategy, "The strategy's canonical spelling."),
    Field("pick", lambda row: row[1] is row[0].ranking.pick, "Whether this is the recommended option."),
    Field("usable", lambda row: row[1].usable, "Whether it could be picked: it fits, and is exact or allowed."),
    Field("why_not", lambda row: row[1].why_not or None, "Why it is not the pick."),
    Field("exact", lambda row: row[1].exact, "Whether it computes the same function as `naive`, to rounding."),
    Field(
        "outcome",
        lambda row: row[1].record.outcome.value,
        "`completed`, `out_of_memory`, `unsupported`, `timed_out` or `crashed`.",
    ),
    Field("need_bytes", lambda row: row[1].need_bytes, "What it needs: peak, on CUDA with cache and context."),
    Field("seconds", lambda row: _seconds(row[1]), "Median time of a step, or its estimate."),
    Field(
        "seconds_measured",
        lambda row: row[1].time.measured if row[1].time else None,
        "Whether the time was measured, and is not an estimate.",
    ),
    Field(
        "max_rel_error",
        lambda row: _error(row[1], "max_rel_error"),
        "Largest relative error of the output against the plain block in float64.",
    ),
    Field(
        "grad_max_rel_error",
        lambda row: _error(row[1], "grad_max_rel_error"),
        "Training: the worst relative error of the gradients.",
    ),
    Field("source", lambda row: row[1].record.source.value, "`measured` on this machine, or `emulated`."),
    Field("device", lambda row: row[1].record.environment.device_name, "The device's name."),
    Field("gpu", lambda row: row[1].record.card, "The emulated card as `--gpu` spells it; empty if measured."),
)


def recommend_page(found: Recommendation) -> Page:
    """Make the page of a recommendation: every option, the verdict, and the pick as code."""
    notes = (Paragraph(Kind.LEGEND, _LEGEND), *paragraphs(Kind.REMARK, _remarks(found)))
    first, *rest = _verdict(found)
    verdict = (Paragraph(Kind.VERDICT, first), *paragraphs(Kind.TEXT, rest))
    code = paragraphs(Kind.CODE, filter(None, [found.snippet]))
    rows = rows_of(FIELDS, ((found, option) for option in found.ranking.options))
    return Page(((_grid(found),), notes, verdict, code), names_of(FIELDS), rows, _document(found, rows))


def _document(found: Recommendation, options: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return everything, in bytes and seconds; `fits` is whether there is a `pick`."""
    ranking, sample = found.ranking, found.sample
    pick = ranking.pick
    return {
        "fits": pick is not None,
        "workload": asdict(ranking.workload),
        "source": sample.source.value,
        "device": sample.environment.device_name,
        "gpu": sample.card,
        "records": str(found.origin) if found.origin else None,
        "total_bytes": ranking.capacity.total_bytes,
        "margin_bytes": ranking.capacity.margin_bytes,
        "usable_bytes": ranking.capacity.usable_bytes,
        "pick": pick.strategy if pick else None,
        "options": list(options),
        "largest_map": _threshold_fields(found.largest_map),
        "largest_batch": _threshold_fields(found.largest_batch),
        "nearest": [
            {"given_up": near.given_up, **near.case.to_json(), "need_bytes": near.need_bytes} for near in found.nearest
        ],
        "snippet": found.snippet or None,
    }


def _seconds(option: Option) -> float | None:
    return option.time.seconds if option.time else None


def _error(option: Option, name: str) -> float | None:
    exactness = option.record.measurement.exactness
    return getattr(exactness, name) if exactness else None


def _threshold_fields(threshold: Threshold | None) -> dict[str, Any] | None:
    if threshold is None or threshold.largest_ok is None:
        return None
    workload = threshold.axis.workload(threshold.largest_ok)
    return {
        "batch": workload.batch,
        "height": workload.height,
        "width": workload.width,
        "is_the_limit": threshold.closed,
    }


def _grid(found: Recommendation) -> Grid:
    ranking = found.ranking
    rows = tuple(_row(option, ranking) for option in ranking.options)
    return Grid(f"{ranking.workload} - {place_text(found.sample)}", _COLUMNS, rows)


def _row(option: Option, ranking: Ranking) -> Row:
    need = option.need_bytes
    picked = option is ranking.pick
    cells = (
        strategy_text(option.record),
        format_bytes(need),
        _share(need, ranking.capacity.total_bytes),
        _time(option),
        "pick" if picked else option.why_not,
    )
    return Row(cells, frozenset({0, 4} if picked else ()), failed=not ranking.fits(option))


def _share(need: int | None, total: int) -> str:
    if need is None:
        return ""
    return f"{need / total:.0%}" if need < 10 * total else f"{need / total:,.0f}x"


def _time(option: Option) -> str:
    return ("" if option.time is None or option.time.measured else "~") + format_seconds(_seconds(option))


def _remarks(found: Recommendation) -> Iterator[str]:
    """Yield where the numbers come from."""
    if found.origin:
        yield f"Recorded in {found.origin} at {found.sample.time}; nothing was run."
    bases = {o.record.measurement.estimate.basis for o in found.ranking.options if o.record.measurement.estimate}
    if bases:
        yield f"Estimated times: {'; '.join(sorted(bases))}."
    records = [option.record for option in found.ranking.options]
    yield from another_attention_remarks(records)
    yield from note_remarks(records)


def _verdict(found: Recommendation) -> list[str]:
    pick = found.ranking.pick
    return [*_pick_remarks(found, pick)] if pick else [*_nothing_remarks(found)]


def _pick_remarks(found: Recommendation, pick: Option) -> Iterator[str]:
    ranking, capacity = found.ranking, found.ranking.capacity
    need = pick.need_bytes or 0
    yield (
        f"Use {pick.strategy}: it needs {format_bytes(need)} of {format_bytes(capacity.total_bytes)} and leaves "
        f"{format_bytes(capacity.total_bytes - need)} free (margin: {format_bytes(capacity.margin_bytes)})."
    )
    yield from _headroom_remarks(found)
    yield _naive_remark(pick, ranking)
    yield _exactness(pick)


def _headroom_remarks(found: Recommendation) -> Iterator[str]:
    reach = []
    for threshold, what in ((found.largest_map, "map"), (found.largest_batch, "batch")):
        if threshold is None or threshold.largest_ok is None:
            continue
        size = threshold.axis.text(threshold.largest_ok)
        reach.append(f"a {what} of {'' if threshold.closed else 'at least '}{size}")
    if reach:
        yield f"With the same margin it also fits {' or '.join(reach)}."
    for threshold in (found.largest_map, found.largest_batch):
        if threshold is not None and not threshold.closed and threshold.reason:
            yield f"The search ended early: {threshold.reason}."


def _naive_remark(pick: Option, ranking: Ranking) -> str:
    naive = ranking.naive
    if naive is None:
        return "naive was not among the candidates."
    if naive is pick:
        return "It is the plain form itself."
    return f"{against_naive(pick, naive)}."


def _exactness(pick: Option) -> str:
    measured = pick.record.measurement.exactness
    if measured is None:
        error = "its error was not measured"
        if pick.record.source is Source.EMULATED:
            error += " (an emulated card computes nothing)"
    else:
        error = f"largest error {max(measured.max_rel_error, measured.grad_max_rel_error or 0.0):.0e} against float64"
    if pick.exact:
        return f"Exact: the same function as naive to rounding; {error}."
    strategy = pick.record.case.parsed
    if strategy.another_attention:
        return f"Another function than naive's ({strategy.approximation}): weights need training again; {error}."
    return f"Approximate ({strategy.approximation}): {error}."


def _nothing_remarks(found: Recommendation) -> Iterator[str]:
    ranking = found.ranking
    usable = format_bytes(ranking.capacity.usable_bytes)
    exact = [option for option in ranking.options if option.exact]
    if exact and all(o.record.outcome not in (Outcome.COMPLETED, Outcome.OUT_OF_MEMORY) for o in exact):
        yield f"No exact variant ran {ranking.workload}, for other reasons than memory: see the verdicts."
        yield from _nearest_remarks(found)
        return
    over_it = [o for o in exact if o.need_bytes is not None and o.need_bytes > ranking.capacity.usable_bytes]
    nearest = min(over_it, key=lambda o: o.need_bytes or 0, default=None)
    over = ""
    if nearest is not None and nearest.need_bytes is not None:
        excess = format_bytes(nearest.need_bytes - ranking.capacity.usable_bytes)
        over = f" The nearest, {nearest.strategy}, is over by {excess}."
    yield f"Nothing exact fits {ranking.workload} in {usable} ({_left_free(ranking)}).{over}"
    yield from _nearest_remarks(found)


def _nearest_remarks(found: Recommendation) -> Iterator[str]:
    if found.nearest:
        yield "What would fit, from least to most harm:"
        yield from (f"- {_nearest_text(near, found.ranking)}" for near in found.nearest)
    elif found.origin:
        yield "Run without --from to search for what would fit."
    else:
        yield "No smaller batch or map was found to fit either."


def _left_free(ranking: Ranking) -> str:
    capacity = ranking.capacity
    return f"{format_bytes(capacity.total_bytes)} less a margin of {format_bytes(capacity.margin_bytes)}"


def _nearest_text(near: Nearest, ranking: Ranking) -> str:
    w, takes = near.case.workload, f"{near.case.strategy}, {format_bytes(near.need_bytes)}"
    if near.given_up == "batch":
        steps = -(-ranking.workload.batch // w.batch)
        training = f"; accumulate gradients over {steps} steps for the same update" if w.mode == "train" else ""
        return f"a batch of {w.batch}: {takes}{training}"
    if near.given_up == "map":
        return f"a map of {w.height}x{w.width}: {takes}"
    words = {
        "precision": "lower precision",
        "keys": "fewer keys, so another function",
        "attention": "another attention, so another function",
    }
    return f"{words[near.given_up]}: {takes} (--allow-approximate)"
