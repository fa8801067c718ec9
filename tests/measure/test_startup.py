"""Only installed modules run, whatever is in the current folder and in the folders of PYTHONPATH."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnprof.import_path import find_module, search_path, use_search_path

ROOT = Path(__file__).parents[2]
SHADOWS = ("torch", "json", "random", "platform", "numpy", "psutil", "msgspec", "pynvml", "triton")
CHATTER = "import os\nprint('chatter')\nos.write(1, b'not a message')\nraise RuntimeError('broken')\n"


@pytest.fixture
def shadows(tmp_path):
    """A folder with modules of well-known names, which tell when they run."""
    folder = tmp_path / "shadows"
    folder.mkdir()
    for name in SHADOWS:
        (folder / f"{name}.py").write_text(
            f"open({str(folder / 'ran')!r}, 'a').write('{name} ')\nraise SystemExit(9)\n"
        )
    (folder / "attnprof").mkdir()  # the folder of a clone is a namespace package to Python
    return folder


def command(*arguments, cwd, path=()):
    code = "import sys; sys.argv[0] = 'attnprof'; from attnprof.__main__ import main; main()"
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, ROOT]))}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, cwd=cwd, env=environ
    )


def test_nothing_in_the_current_folder_runs(shadows):
    words = "sweep --device cpu --hw 4 --channels 8 --strategy naive --mode forward --case-seconds 0.001"
    done = command(*words.split(), cwd=shadows)
    assert done.returncode == 0, done.stderr
    assert not (shadows / "ran").exists()


def test_nothing_in_pythonpath_shadows_or_breaks_the_worker(shadows, tmp_path):
    (shadows / "types.py").write_text("raise SystemExit(9)\n")
    (shadows / "sitecustomize.py").write_text(CHATTER)
    (shadows / "usercustomize.py").write_text(CHATTER)
    code = """
import os, sys
from attnprof.cases.case import Case
from attnprof.cases.settings import Settings
from attnprof.cases.workload import ModelWorkload, Workload
from attnprof.measure.runner import Runner
os.environ["PYTHONPATH"] = sys.argv[1]
sys.path.insert(0, sys.argv[1])
with Runner(Settings(device="cpu", memory_only=True)) as runner:
    print(runner.measure(Case(Workload(1, 8, 4, 4), "naive")).outcome.value)
    workload = ModelWorkload(1, 1, 1, 1, target=sys.argv[2], inputs="4x4")
    result = runner.measure(Case(workload, "as-is"))
    print(result.outcome.value, result.reason)
"""
    # A model may import what its user has in PYTHONPATH.
    (shadows / "of_the_user.py").write_text("from torch import nn\nNet = nn.Identity\n")
    (tmp_path / "net.py").write_text("from of_the_user import Net\n")
    done = subprocess.run(
        [sys.executable, "-c", code, str(shadows), f"{tmp_path / 'net.py'}:Net"],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.stdout.splitlines() == ["completed", "completed "], done.stderr
    assert not (shadows / "ran").exists()


def test_installed_folders_come_first(shadows, monkeypatch):
    stdlib, installed = Path(os.__file__).parent, Path(pytest.__file__).parents[1]
    monkeypatch.setattr(sys, "path", [str(shadows), "", str(installed), str(stdlib), "relative"])
    assert search_path() == [str(installed), str(stdlib), str(shadows)]
    assert find_module("numpy").origin != str(shadows / "numpy.py")
    use_search_path()
    assert sys.path == [str(installed), str(stdlib)]
