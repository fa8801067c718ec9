"""The four forms of a page, on a small one; and that every command's fields are described."""

import csv
import io
import json

import pytest
from support.drawing import drawn

from attnprof.report.fields import FIELDS
from attnprof.report.grid import Column, Grid, Row
from attnprof.report.page import Kind, Page, Paragraph, paragraphs

GRID = Grid(
    "A title",
    (Column("name", folds=True), Column("size", right=True), Column("what", folds=True)),
    (
        Row(("naive", "1.00 GiB", "as everyone writes it"), frozenset({1})),
        Row(("~pooled:2|*", "9.00 MiB", ("a_b, pooled", "in two lines")), failed=True),
    ),
)
PAGE = Page(
    sections=(
        (GRID,),
        (),
        (Paragraph(Kind.LEGEND, "* marks the best."), *paragraphs(Kind.REMARK, ["one", "two <three>"])),
        (
            Paragraph(Kind.FAILURE, "It failed:"),
            *paragraphs(Kind.QUOTE, ["a.py:1  x = y * z", "b.py:2"]),
            Paragraph(Kind.VERDICT, "Use naive."),
            Paragraph(Kind.TEXT, "It is exact."),
        ),
        paragraphs(Kind.CODE, ["import torch\nx = 1"]),
    ),
    columns=("name", "size_bytes", "held"),
    rows=({"name": "a", "size_bytes": 1, "held": {"x": 2, "y": 3}}, {"name": "b, c", "size_bytes": None, "held": {}}),
)
TABLE = """\
A title
name             size  what
────────────────────────────────────────────
naive        1.00 GiB  as everyone writes it
~pooled:2|*  9.00 MiB  a_b, pooled
                       in two lines

* marks the best.
one
two <three>

It failed:
  a.py:1  x = y * z
  b.py:2
Use naive.
It is exact.

import torch
x = 1
"""
NARROW = """\
A title
name             size
─────────────────────
naive        1.00 GiB
~pooled:2|*  9.00 MiB

name         what
──────────────────────────
naive        as everyone
             writes it
~pooled:2|*  a_b, pooled
             in two lines
"""
MARKDOWN = """\
**A title**

| name | size | what |
| --- | ---: | --- |
| naive | 1.00 GiB | as everyone writes it |
| \\~pooled:2\\|\\* | 9.00 MiB | a_b, pooled<br>in two lines |

\\* marks the best.

- one
- two \\<three>

**It failed:**

```
a.py:1  x = y * z
b.py:2
```

**Use naive.**

It is exact.

```python
import torch
x = 1
```
"""


def test_a_table_for_a_terminal():
    assert drawn(PAGE) == TABLE


def test_what_is_too_wide_is_drawn_one_below_the_other():
    assert drawn(Page(PAGE.sections[:1], (), ()), width=26) == NARROW


def test_markdown():
    assert PAGE.markdown() == MARKDOWN


def test_csv_has_one_value_in_a_field():
    assert PAGE.csv() == 'name,size_bytes,held\na,1,x: 2; y: 3\n"b, c",,\n'


def test_json_is_the_rows_or_the_document():
    assert json.loads(PAGE.json()) == list(PAGE.rows)
    assert json.loads(Page((), (), (), {"exit_code": 1}).json()) == {"exit_code": 1}


def test_a_page_without_rows_still_has_its_columns():
    empty = Page((), ("a", "b"), ())
    assert (empty.csv(), empty.json(), empty.markdown()) == ("a,b\n", "[]\n", "\n")


@pytest.mark.parametrize("command", FIELDS)
def test_every_field_is_described(command):
    names = [field.name for field in FIELDS[command]]
    assert len(set(names)) == len(names)
    assert all(field.description.endswith(".") and field.description[0] in "`ABCDEFGHIJKLMNOPQRSTUVWXYZp" for field in
               FIELDS[command])  # fmt: skip


def test_csv_can_be_read_back():
    [first, second] = csv.DictReader(io.StringIO(PAGE.csv()))
    assert (first["held"], second["name"], second["size_bytes"]) == ("x: 2; y: 3", "b, c", "")
