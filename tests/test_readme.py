"""What the pages show is what their lines print, and what they name exists."""

import re
import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import typer

from attnprof.cli.app import app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = typer.main.get_command(app).commands


def python_of(page):
    """The Python blocks of a page that are not marked `<!-- not run: WHY -->`."""
    blocks = re.findall(r"(<!-- not run: .*? -->\n)?^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return "".join(code for mark, code in blocks if not mark)


def test_the_answers_print_what_they_say():
    code = python_of(ROOT / "docs" / "concepts" / "questions.md")
    shown = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    assert len(shown) == code.count("print(") > 0
    with redirect_stdout(StringIO()) as printed:
        exec(code, {})
    assert printed.getvalue().splitlines() == shown


def test_the_readme_is_one_screen_and_has_two_set_up_commands():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(re.findall(r"^python3 -m venv ", text, re.MULTILINE)) == 2


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_installs_a_name_that_is_not_ours(page):
    assert not re.search(r"pip install ['\"]?attnprof", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_a_page_shows_has_these_options(page):
    shown = re.findall(r"(?:^|`)(?:\.venv/bin/)?attnprof ([a-z][^`#]*)", page.read_text(), re.MULTILINE)
    for line in shown:
        name, *words = shlex.split(line.partition("\n")[0].partition(" > ")[0].partition(" && ")[0], comments=True)
        if name not in COMMANDS:
            continue
        known = {
            option for parameter in COMMANDS[name].params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        used = {word.partition("=")[0] for word in words[: words.index("--") if "--" in words else None]}
        unknown = {word for word in used if word.startswith("--")} - known - {"--help"}
        assert not unknown, f"attnprof {line}"
