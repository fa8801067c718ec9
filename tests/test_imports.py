"""Import arrows point one way, and what must answer at once does not import torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import attnprof

ROOT = Path(attnprof.__file__).parent


def imported(path):
    """Modules of attnprof that a file imports, at the top or later."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in names if name.split(".")[0] == "attnprof"}


@pytest.mark.parametrize("path", sorted((ROOT / "attention").glob("*.py")), ids=lambda p: p.name)
def test_the_attention_library_knows_nothing_of_the_profiler(path):
    assert all(name.startswith("attnprof.attention") for name in imported(path))


@pytest.mark.parametrize("path", sorted((ROOT / "patching").glob("*.py")), ids=lambda p: p.name)
def test_patching_takes_no_more_than_the_attention_library(path):
    assert all(name.startswith(("attnprof.attention", "attnprof.patching")) for name in imported(path))


@pytest.mark.parametrize("path", sorted((ROOT / "report").glob("*.py")), ids=lambda p: p.name)
def test_reports_never_measure(path):
    assert not any(name.startswith("attnprof.measure") for name in imported(path))


@pytest.mark.parametrize("path", sorted((ROOT / "emulation" / "watch").rglob("*.py")), ids=lambda p: p.name)
def test_what_runs_in_a_users_program_does_without_attnprof(path):
    assert not imported(path)


@pytest.mark.parametrize(
    "name", ["thresholds.py", "recommend/ranking.py", "recommend/answer.py", "recommend/snippet.py"]
)
def test_what_decides_does_not_measure(name):
    assert not any(module.startswith(("attnprof.measure", "attnprof.pipeline")) for module in imported(ROOT / name))


@pytest.mark.parametrize(
    "statement",
    [
        "import attnprof",
        "import attnprof.cli",
        "import attnprof.attention",
        "import attnprof.plan, attnprof.record, attnprof.pipeline, attnprof.measure.runner",
        "import attnprof.report.table, attnprof.report.export, attnprof.report.gpus",
        "import attnprof.emulation, attnprof.doctor; from attnprof.catalogue import parse_cards; parse_cards('t4')",
        "import attnprof.programs, attnprof.report.run",
        "from attnprof.cli import app; app(['gpus'], standalone_mode=False)",
        "from attnprof.cli import app; app(['strategies'], standalone_mode=False)",
        "from attnprof.cli import app; app(['blocks'], standalone_mode=False)",
        "import attnprof.model.answer, attnprof.model.profile, attnprof.report.model",
        "from attnprof.cli import app; app(['snippet', 'sdpa-pad'], standalone_mode=False)",
        "import attnprof.recommend.from_runs, attnprof.recommend.from_file, attnprof.report.recommend",
        "from attnprof.attention import parse_strategy; parse_strategy('pooled+sdpa-pad+fp16')",
        "from attnprof.cli import app; app(['sweep', '--help'], standalone_mode=False)",
    ],
)
def test_no_torch_and_no_pandas(statement):
    code = f"import sys\n{statement}\nassert not {{'torch', 'pandas', 'numpy'}} & set(sys.modules), 'imported'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
