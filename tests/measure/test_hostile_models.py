"""Models that fork, exit, crash, and write to or close what they have inherited: none gets another's figures."""

import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from attnprof.cases.cards import parse_cards
from attnprof.cases.case import AS_IS, Case
from attnprof.cases.measurement import Outcome
from attnprof.cases.settings import Settings
from attnprof.cases.workload import ModelWorkload
from attnprof.measure.runner import Runner
from attnprof.studies.devices import make_runner

FILE = Path(__file__).parents[1] / "support" / "hostile_models.py"
# Nothing of these is to be seen in the figures.
HARMLESS = ("Forks", "ForksInInit", "LeavesAProcess", "WritesToEverything", "ClosesEverything", "HidesItsProcess")
# The line that is told, and the end of the reason.
DEADLY = {
    "Exits0": ("harm: os._exit(0)", "ended the measuring process (exit code 0)"),
    "Exits7": ("harm: os._exit(7)", "ended the measuring process (exit code 7)"),
    "ExitsInInit": ("__init__: os._exit(3)", "ended the measuring process (exit code 3)"),
    "ExitsInC": ("harm: ctypes.CDLL(None).exit(5)", "ended the measuring process (exit code 5)"),
    "LeavesPython": ("harm: sys.exit(0)", "SystemExit: 0"),
    "LeavesPythonInInit": ('__init__: sys.exit("bye")', "SystemExit: bye"),
    "Interrupts": ("harm: raise KeyboardInterrupt", "KeyboardInterrupt"),
    "ReadsANullPointer": ("harm: ctypes.string_at(0)", "ended the measuring process (signal SIGSEGV)"),
    "Aborts": ("harm: os.abort()", "ended the measuring process (signal SIGABRT)"),
    "KillsItself": ("harm: os.kill(os.getpid(), signal.SIGKILL)", "ended the measuring process (signal SIGKILL)"),
    "BecomesAnother": ('harm: os.execv("/bin/true", ["true"])', "ended the measuring process (exit code 0)"),
    "RaisesWhatHasNoText": ("harm: raise NamelessError", "NamelessError"),
    "Asks": ('harm: input("continue? ")', "EOFError: EOF when reading a line"),
}


def case(name, strategy=AS_IS):
    return Case(ModelWorkload(2, 1, 1, 1, mode="forward", target=f"{FILE}:{name}", inputs="3x16x16"), strategy)


def peak(runner, *arguments):
    result = runner.measure(case(*arguments))
    assert result.outcome is Outcome.COMPLETED, result.reason
    return result.measurement.memory.peak_allocated_bytes


def assert_told(runner, name):
    begun = time.monotonic()
    result = runner.measure(case(name))
    line, end = DEADLY[name]
    assert time.monotonic() - begun < 60  # far from the time-out
    assert result.outcome is Outcome.CRASHED
    assert re.search(rf"hostile_models\.py, line [0-9]+, in {re.escape(line)}: ", result.reason), result.reason
    assert result.reason.endswith(end)
    assert "\n" not in result.reason


@pytest.fixture(scope="module", autouse=True)
def importable():
    """The models import from the folder of the tests, as a user's do from PYTHONPATH."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FILE.parents[1]))
        yield


@pytest.fixture(scope="module")
def cpu():
    with Runner(Settings(device="cpu", case_seconds=0.001, timeout_seconds=120, memory_only=True)) as runner:
        yield runner


@pytest.fixture(scope="module")
def plain(cpu):
    return peak(cpu, "Net"), peak(cpu, "Net", "chunked")


@pytest.mark.parametrize("name", HARMLESS)
def test_the_figures_are_the_cases_own(cpu, plain, name):
    assert plain[0] != plain[1]
    assert (peak(cpu, name), peak(cpu, name, "chunked")) == plain
    assert peak(cpu, "Net", "chunked") == plain[1]


@pytest.mark.parametrize("name", DEADLY)
def test_the_line_that_ends_the_process_is_told_at_once(cpu, name):
    assert_told(cpu, name)


@pytest.mark.parametrize("name", ["TakesNumpysMemory", "TakesMappedMemory", "TakesMemoryInInit"])
def test_memory_that_is_not_torchs_is_limited_too(cpu, name):
    result = cpu.measure(case(name))
    assert result.outcome is Outcome.OUT_OF_MEMORY
    assert result.reason.startswith("limit ")


def test_a_huge_text_is_cut(cpu):
    result = cpu.measure(case("RaisesAHugeText"))
    assert 500 < len(result.reason) < 1000
    assert 'in harm: raise ValueError("x" * 50_000_000): ValueError: xxx' in result.reason


def test_the_line_that_hangs_is_told(cpu):
    result = cpu.measure(case("Hangs"), settings=Settings(device="cpu", timeout_seconds=2))
    assert result.outcome is Outcome.TIMED_OUT
    assert re.fullmatch(r"no end after 2 s \(--timeout\): .*, line [0-9]+, in harm: time\.sleep\(600\)", result.reason)


def test_nothing_that_a_model_forked_is_left(cpu, plain):
    peak(cpu, "LeavesAProcess")
    peak(cpu, "Forks")
    [worker] = psutil.Process().children()
    assert worker.children(recursive=True) == []


def test_a_model_that_kills_the_worker_costs_its_own_case_alone(cpu, plain):
    result = cpu.measure(case("KillsItsParent"))
    assert result.outcome is Outcome.CRASHED
    # The line, if the child lived long enough to note it.
    assert "was killed" in result.reason or "signal SIGKILL" in result.reason
    assert peak(cpu, "Net", "chunked") == plain[1]


def test_on_an_emulated_card_which_measures_in_place(on_card):
    on_card("t4")  # skips without the CUDA build of torch
    [card] = parse_cards("t4")
    with make_runner(Settings(timeout_seconds=120, memory_only=True), card) as runner:
        plain = peak(runner, "Net"), peak(runner, "Net", "chunked")
        for name in ("Forks", "WritesToEverything"):
            assert (peak(runner, name), peak(runner, name, "chunked")) == plain
        assert peak(runner, "ClosesEverything", "chunked") == plain[1]
        for name in ("LeavesPython", "Exits7"):
            assert_told(runner, name)
        assert peak(runner, "LeavesTraces") == plain[0]
        time.sleep(1)
        assert peak(runner, "Net", "chunked") == plain[1]


def test_a_killed_command_leaves_no_process(tmp_path):
    (tmp_path / "slow.py").write_text(
        "import subprocess, sys, time\nsubprocess.Popen(['sleep', '600'])\ntime.sleep(600)"
    )
    code = f"""

from pathlib import Path
from attnprof.measure.runner import Runner
from attnprof.cases.settings import Settings
from attnprof.cases.case import Case
from attnprof.cases.workload import ModelWorkload
with Runner(Settings(device="cpu")) as runner:
    runner.open()
    print("open", flush=True)
    workload = ModelWorkload(1, 1, 1, 1, target={str(tmp_path / "slow.py:Net")!r}, inputs="3")
    runner.measure(Case(workload, "as-is"), lambda name: print(name, flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as command:
        assert [command.stdout.readline(), command.stdout.readline()] == ["open\n", "build\n"]
        for _ in range(100):
            family = psutil.Process(command.pid).children(recursive=True)
            if any(process.name() == "sleep" for process in family):
                break
            time.sleep(0.1)
        assert len(family) == 3  # the worker, the case's child, and what that started
        command.kill()
    _, left = psutil.wait_procs(family, timeout=10)
    assert left == []
