"""The page of `attnprof doctor`: what works on this machine, and what to do about the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from attnprof.report.grid import Column, Grid, Row
from attnprof.report.page import Field, Page, names_of, rows_of
from attnprof.studies.doctor import Finding

FIELDS: tuple[Field[Finding], ...] = (
    Field("topic", lambda finding: finding.topic, "What was looked at."),
    Field("fine", lambda finding: finding.fine, "Whether it works as it should."),
    Field("text", lambda finding: finding.text, "What was found."),
    Field("action", lambda finding: finding.action or None, "What to do about it; empty if there is nothing to do."),
)
_COLUMNS = (Column("topic"), Column("what was found", folds=True))
_TEXT = 1  # the place of its column


def doctor_page(findings: Sequence[Finding]) -> Page:
    """Make the page of these findings."""
    grid = Grid("", _COLUMNS, tuple(_rows(findings)), headed=False)
    return Page(((grid,),), names_of(FIELDS), rows_of(FIELDS, findings))


def _rows(findings: Sequence[Finding]) -> Iterator[Row]:
    """Yield a row for each finding and one for each action; a topic stands in its first row alone."""
    topic = ""
    for finding in findings:
        yield Row((finding.topic if finding.topic != topic else "", finding.text), failed=not finding.fine)
        if finding.action:
            yield Row(("", f"-> {finding.action}"), best=frozenset({_TEXT}))
        topic = finding.topic
