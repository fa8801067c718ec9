"""Docstrings are sentences: forms without a subject or a verb are refused. Ruff's D rules check the rest."""

import ast
import re
from pathlib import Path

import pytest

import attnprof

ROOT = Path(attnprof.__file__).parent
FORMS = re.compile(r"(Of|By|The same|What|Where|And|From|To|With) ")


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_docstrings_begin_as_sentences(path):
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    found = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
    assert [text.partition("\n")[0] for text in found if FORMS.match(text)] == []
