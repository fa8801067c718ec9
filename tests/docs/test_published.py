"""The table of published figures, which is too slow to be made anew in a test."""

import csv
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "results" / "published"


def test_the_table_has_every_figure_with_its_source_and_program():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    with (FOLDER / "figures.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    table = [line for line in page.partition("<!-- table -->")[2].splitlines() if line.startswith("| ")][1:]
    shown = [line.strip("| ").split(" | ") for line in table]
    assert [(source, quantity, real) for source, _, quantity, real, _ in shown] == [
        (row["source"], row["quantity"], row["real"]) for row in rows
    ]
    equal = sum(emulated == "equal" for *_, emulated in shown)
    assert f"{equal} of {len(rows)} figures are equal." in page
    for row in rows:
        assert (FOLDER / row["command"].split()[0]).is_file()
        name = row["source"].partition("#")[0]
        assert f"[{name}](https://github.com/{name})" in page or f"{name}#NUMBER" in page
