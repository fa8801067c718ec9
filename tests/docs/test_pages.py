"""What the pages show is what their lines print, and what they name exists."""

import re
import runpy
import shlex
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import typer
from support.sagan import SaganBlock
from torch import nn

from attnprof.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = typer.main.get_command(app).commands
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def python_of(page):
    """The Python of a page that is not marked `<!-- not run: WHY -->` or `<!-- file: NAME -->`."""
    block = r"(<!-- (?:not run|file): .*? -->\n)?^```python\n(.*?)^```$"
    return "".join(code for mark, code in re.findall(block, page.read_text(), re.MULTILINE | re.DOTALL) if not mark)


# What a reader brings to a page.
def the_readers():
    return {"model": nn.Sequential(SaganBlock(128)), "old_block": SaganBlock(128)}


@pytest.mark.parametrize("page", [page for page in PAGES if python_of(page)], ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_and_prints_what_it_says(page):
    code = python_of(page)
    with redirect_stdout(StringIO()) as printed:
        exec(code, the_readers())
    said = re.findall(r"^print\(.*\)  # (.*)$", code, re.MULTILINE)
    if len(said) == code.count("print("):
        assert printed.getvalue().splitlines() == said
    else:
        assert not said


def test_every_answer_says_what_it_prints():
    code = python_of(ROOT / "docs" / "concepts" / "questions.md")
    assert len(re.findall(r"^print\(.*\)  # ", code, re.MULTILINE)) == code.count("print(") > 0


def test_the_readme_is_one_screen_and_has_two_set_up_commands():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    assert len(re.findall(r"^python3 -m venv ", text, re.MULTILINE)) == 2


@pytest.mark.parametrize(
    "page", [*PAGES, *sorted((ROOT / "docs" / "assets").glob("*.svg"))], ids=lambda page: page.name
)
def test_nothing_installs_a_name_that_is_not_ours(page):
    assert not re.search(r"pip\s+install\s+['\"]?attnprof", page.read_text().replace("&#160;", " "))


def test_the_pictures_load_nothing():
    for picture in (ROOT / "docs" / "assets").glob("*.svg"):
        assert not re.search(r"@font-face|@import|url\(\"?https?:", picture.read_text()), picture.name


def test_the_picture_of_the_layers_is_that_of_the_contract():
    drawn = runpy.run_path(str(ROOT / "docs" / "pictures.py"))["layers_picture"]()
    assert drawn == (ROOT / "docs" / "assets" / "layers.svg").read_text(), "run python docs/pictures.py"


@each_page
def test_every_command_that_a_page_shows_has_these_options(page):
    shown = re.findall(r"(?:^|`|output: )!?(?:\.venv/bin/)?attnprof ([a-z][^`#]*)", page.read_text(), re.MULTILINE)
    for line in shown:
        name, *words = shlex.split(re.split(r"\n| > | && | -->", line)[0], comments=True)
        if name not in COMMANDS:
            continue
        command = COMMANDS[name]
        while hasattr(command, "commands") and words and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        used = {word.partition("=")[0] for word in words[: words.index("--") if "--" in words else None]}
        unknown = {word for word in used if word.startswith("--")} - known - {"--help"}
        assert not unknown, f"attnprof {line}"
