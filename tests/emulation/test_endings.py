"""The end of a program of `attnprof run` as it is found out, in programs with a torch that does nothing."""

import csv
import io
import os
import signal
import sys
import threading
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest
from support.drawing import drawn

from attnprof.cases.cards import parse_cards
from attnprof.emulation.watch.endings import Endings, raised_of
from attnprof.emulation.watch.findings import Ending, ProcessFindings, Raised
from attnprof.emulation.watch.notes import Notes
from attnprof.report.program import program_page
from attnprof.report.program_ending import is_lower_bound, main_process, process_end, program_end
from attnprof.studies import program
from attnprof.studies.program import ProgramRun, run_program

FAKE_TORCH = """
__version__ = "2.14.1"
class version: cuda = "13.0"
class cuda: _lazy_call = staticmethod(lambda follow: None)
class default_generator: manual_seed = staticmethod(lambda seed: None)
class OutOfMemoryError(RuntimeError): pass
"""
NO_CARD = " before it used the card"


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Run a text as train.py, whose torch is a fake; returns what was found and the report's words."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(FAKE_TORCH)
    monkeypatch.setattr(program, "emulation_environment", lambda *_, **__: {"PYTHONDONTWRITEBYTECODE": "1"})
    monkeypatch.setattr(program, "find_toolkit", lambda: type("Toolkit", (), {"torch": "2.14.1"}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "")

    def found(text, *arguments):
        (tmp_path / "train.py").write_text(dedent(text))
        command = [sys.executable, "train.py", *arguments]
        with (tmp_path / "output").open("w") as output:
            ran = run_program(parse_cards("t4")[0], command, stdout=output)
        return ran, " ".join(drawn(program_page(ran)).split()), (tmp_path / "output").read_text()

    return found


@pytest.mark.parametrize(
    ("text", "end", "words"),
    [
        ("import torch", "finished", "Finished without using the card: it initialised no CUDA."),
        ("pass", "finished", "Finished without using the card: it did not import torch."),
        (
            "import torch\ndef f():\n    raise ValueError('bad shape')\nf()",
            "exception",
            f"Uncaught ValueError{NO_CARD}: bad shape train.py:4 f() train.py:3 raise ValueError('bad shape')",
        ),
        ("import sys, torch\nsys.excepthook = print\n1 / 0", "exception", f"Uncaught ZeroDivisionError{NO_CARD}: "),
        ("import no_torch", "exception", f"Uncaught ModuleNotFoundError{NO_CARD}: No module named 'no_torch'"),
        ("def f(:\n  pass", "exception", f"Uncaught SyntaxError{NO_CARD}: invalid syntax train.py:1 def f(:"),
        ("import sys, torch\nsys.exit(3)", "exit_code", f"Ended with exit code 3{NO_CARD}."),
        ("import sys\nsys.exit('usage')", "exit_code", f"Ended with exit code 1{NO_CARD}."),
        (
            "import torch\ntry:\n    raise SystemExit(5)\nexcept SystemExit:\n    pass",
            "finished",
            "Finished without using the card",
        ),
        (
            "import os, torch\ntry:\n    1 / 0\nexcept ZeroDivisionError:\n    os._exit(4)",
            "exit_code",
            f"Ended with exit code 4 (os._exit){NO_CARD}: train.py:5 os._exit(4) It handled ZeroDivisionError then: "
            "division by zero train.py:3 1 / 0",
        ),
        ("import os, torch\nos._exit(0)", "finished", "Finished without using the card"),
        ("import os, signal, torch\nos.kill(os.getpid(), signal.SIGKILL)", "killed", "Killed by signal SIGKILL"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "killed", f"Killed by signal SIGSEGV{NO_CARD}."),
        (
            "import torch\ntry:\n    raise torch.OutOfMemoryError('CUDA out of memory.')\n"
            "except RuntimeError:\n    raise ValueError('too large')",
            "out_of_memory",
            f"Out of memory{NO_CARD}: too large",
        ),
        (
            "import os, torch\ntry:\n    raise torch.OutOfMemoryError('CUDA out of memory.')\n"
            "except RuntimeError:\n    os._exit(1)",
            "out_of_memory",
            f"Out of memory{NO_CARD}: CUDA out of memory. train.py:3 raise",
        ),
        (
            "import os, sys, torch\nos.execv(sys.executable, [sys.executable, '-c', 'import torch; 1 / 0'])",
            "exception",
            f"Uncaught ZeroDivisionError{NO_CARD}: division by zero",
        ),
        (
            "import os, sys, torch\ntry:\n    os.execv('/missing', ['x'])\nexcept OSError:\n    1 / 0",
            "exception",
            f"Uncaught ZeroDivisionError{NO_CARD}: division by zero",
        ),
    ],
)
def test_the_first_line_says_how_the_program_ended(run, text, end, words):
    found, shown, _ = run(text)
    assert shown.startswith(words)
    assert program_end(found).value == end
    main = main_process(found)
    assert main is None or is_lower_bound(found, main) == (end != "finished")


def test_a_programs_own_hooks_run(run):
    _, shown, said = run("""
        import sys, threading, torch
        sys.excepthook = lambda kind, *_: print("own", kind.__name__)
        threading.excepthook = lambda arguments: print("thread", arguments.exc_type.__name__)
        thread = threading.Thread(target=lambda: [][0]); thread.start(); thread.join()
        {}["a"]
    """)
    assert said == "thread IndexError\nown KeyError\n"
    assert shown.startswith("Uncaught KeyError")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("late", [False, True])
def test_a_child_that_failed_is_named(run, method, late):
    found, shown, _ = run(
        f"""
        {"" if late else "import torch"}
        import multiprocessing
        def job(fails):
            import torch
            if fails:
                raise RuntimeError("boom")
        if __name__ == "__main__":
            context = multiprocessing.get_context("{method}")
            processes = [context.Process(target=job, args=(fails,)) for fails in (False, True)]
            for process in processes:
                process.start()
                process.join()
            print(processes[1].pid)
        """
    )
    [child] = [one for one in found.processes if process_end(found, one).value == "exception"]
    assert shown.startswith("Finished without using the card")
    assert f"Process {child.pid} (" in shown
    assert f'failed: Uncaught RuntimeError{NO_CARD}: boom train.py:7 raise RuntimeError("boom")' in shown


def test_children_that_do_well_while_an_error_is_handled_did_not_fail(run):
    found, shown, said = run("""
        import torch, multiprocessing
        context = multiprocessing.get_context("fork")
        try:
            1 / 0
        except ZeroDivisionError:
            process = context.Process(target=print)
            process.start(); process.join()
            with context.Pool(2) as pool:
                print(pool.map(abs, [-1, -2]))
    """)
    assert len(found.processes) == 1
    assert "failed" not in shown
    assert said.endswith("[1, 2]\n")


def test_the_first_of_the_processes_that_failed_is_named(run):
    found, shown, _ = run("""
        import os, sys, time, torch
        first = os.fork()
        if first == 0:
            raise KeyError("first")
        os.waitpid(first, 0)
        if os.fork() == 0:
            raise KeyError("second")
        os.wait()
        sys.exit(1)
    """)
    assert len([one for one in found.processes if process_end(found, one).value == "exception"]) == 2
    assert shown.startswith(f"Ended with exit code 1{NO_CARD}. Process ")
    assert "failed first: Uncaught KeyError" in shown
    assert "'first'" in shown
    assert "'second'" not in shown


def test_a_thread_that_failed_is_named(run):
    _, shown, _ = run("""
        import sys, threading, torch
        def job():
            raise RuntimeError("boom \\x1b[31m")
        for work in (sys.exit, job):
            thread = threading.Thread(target=work, name="loader"); thread.start(); thread.join()
    """)
    assert r"Uncaught RuntimeError in thread loader: boom \x1b[31m train.py:4" in shown
    assert shown.count("in thread") == 1


def test_an_interrupted_program_was_still_running(run):
    # The signal comes from attnprof's own process, as Ctrl-C would.
    def interrupt():
        while not any(b"ready" in path.read_bytes() for path in folder.glob("output")):
            threading.Event().wait(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    folder = Path.cwd()
    waiting = threading.Thread(target=interrupt)
    waiting.start()
    found, shown, _ = run("""
        import time, torch
        print("ready", flush=True)
        time.sleep(60)
    """)
    waiting.join()
    assert (program_end(found).value, found.interrupted, found.signal) == ("interrupted", "SIGINT", "SIGINT")
    assert shown.startswith(f"Still running when interrupted (Ctrl-C){NO_CARD}: train.py:4 time.sleep(60)")


class EndlessError(Exception):
    def __str__(self):
        return "x" * 10_000_000 + "\x1b[2J\nend"


class SilentError(Exception):
    def __str__(self):
        raise KeyboardInterrupt


def test_the_text_of_an_exception_may_be_endless_or_fail():
    assert raised_of(SilentError()).message == ""
    endless = raised_of(EndlessError())
    assert len(endless.message) < 10_000
    assert endless.message.endswith("end")
    assert raised_of(ValueError("a")).type == "ValueError"
    assert raised_of(SilentError()).type.endswith(".SilentError")
    around = ValueError()
    around.__context__ = around  # a loop
    assert not raised_of(around).out_of_memory
    assert raised_of(RuntimeError("process 3: torch.OutOfMemoryError: CUDA out of memory")).out_of_memory


def test_what_a_call_that_fails_noted_is_forgotten():
    finished, resumed = [], []
    endings = Endings(lambda: finished.append(endings.found()), lambda: resumed.append(True))
    endings.begin(Notes())
    leave = endings._before("execv", os.execv)
    with pytest.raises(OSError):
        leave("/missing", ["x"])
    assert (finished[0].left_by, resumed) == ("os.execv", [True])
    assert replace(endings.found(), seconds=0.0) == type(finished[0])()


def test_csv_has_the_end_of_each_process(run):
    found, _, _ = run("import torch\nraise ValueError('bad')")
    [row] = csv.DictReader(io.StringIO(program_page(found).csv()))
    assert (row["end"], row["exit_code"], row["error"]) == ("exception", "1", "ValueError: bad")
    assert row["error_at"] == "train.py:2  raise ValueError('bad')"
    assert row["peak_is_lower_bound"] == "True"


def test_a_process_that_the_program_terminated_did_not_fail(run):
    _, shown, _ = run("""
        import torch, multiprocessing, time
        if __name__ == "__main__":
            process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
            process.start()
            time.sleep(0.5)
            process.terminate(); process.join()
    """)
    assert "failed" not in shown


def test_an_interruption_is_no_failure_of_the_processes_that_it_ends():
    torch = {"torch": "2.14.1", "used_cuda": True, "ended": True}
    main = ProcessFindings(1, "python", **torch, ending=Ending(2.0, Raised("KeyboardInterrupt")))
    child = replace(main, pid=2, ending=Ending(1.0, Raised("KeyboardInterrupt")))
    killed = replace(main, pid=3, ending=Ending(1.0, signal="SIGTERM"))
    failed = replace(main, pid=4, ending=Ending(1.0, Raised("ValueError", "bad")))
    found = ProgramRun(parse_cards("t4")[0], ("python",), 130, "2.14.1", (main, child, killed), "SIGINT", pid=1)
    assert [process_end(found, one).value for one in found.processes] == ["killed", "killed", "killed"]
    found = replace(found, interrupted="SIGINT")
    assert [process_end(found, one).value for one in found.processes] == ["interrupted", "interrupted", "killed"]
    assert "failed" not in drawn(program_page(found))
    assert "Process 4 (python) failed first:" in drawn(program_page(replace(found, processes=(main, child, failed))))
