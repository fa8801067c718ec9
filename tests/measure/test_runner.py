"""The runner against workers that misbehave. No torch, no clocks but for the time-out itself."""

import errno
import os
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from pathlib import Path

import pytest
from support.samples import ENVIRONMENT, case

from attnprof.cases.device_state import DeviceState, OtherProcess
from attnprof.cases.measurement import Outcome
from attnprof.cases.settings import Settings
from attnprof.errors import WorkerError
from attnprof.measure.runner import Runner

PREAMBLE = f"""
import json, os, signal, subprocess, sys, time
from attnprof.measure.mailbox import Mailbox
ENVIRONMENT = {ENVIRONMENT.to_json()!r}
"""
PREAMBLE += """
channel = json.loads(sys.argv[-1])["descriptors"]
mailbox = Mailbox(channel["mailbox"])
number = 0
def put(slot, text):
    slot.put(text.encode())
    os.write(channel["bell"], b".")
def send(**message):
    put(mailbox.phase if message["event"] == "phases" else mailbox.answer, json.dumps({"id": number, **message}))
def answer():
    end(notes=["ok"])
def end(reason="", retires=False, id=None, **measurement):
    result = {"outcome": "completed", "reason": reason, "measurement": measurement}
    send(event="case", result=result, retires=retires, **({} if id is None else {"id": id}))
send(event="ready")
for line in os.fdopen(channel["requests"]):
    request = json.loads(line)
    number = request["id"]
    if request["verb"] == "open":
        facts = {**ENVIRONMENT, "device": request["device"], "extras": {"pid": os.getpid()}}
        send(event="device", environment=facts, source="measured")
        continue
"""


def runner(body, **settings):
    program = PREAMBLE + textwrap.indent(textwrap.dedent(body), "    ")
    return Runner(Settings(**settings), command=(sys.executable, "-c", program))


def test_an_answer_and_its_phases():
    entered = []
    with runner("send(event='phases', names=['build', 'memory']); answer()") as one:
        result = one.measure(case(), entered.append)
        assert one.environment.device == "auto"
    assert (result.outcome, result.measurement.notes, entered) == (Outcome.COMPLETED, ("ok",), ["build", "memory"])


def test_the_device_state_and_one_that_fails():
    body = """
    if request["verb"] == "state":
        found = dict(free_bytes=1, total_bytes=2, kernels={"fp32": {"math": ""}}, no_cuda="no driver")
        send(event="state", state={**found, "other_processes": [{"pid": 3, "name": "python", "held_bytes": None}]})
    """
    with runner(body) as one:
        one.open()
        told = one.device_state()
    assert told == DeviceState(1, 2, {"fp32": {"math": ""}}, (OtherProcess(3, "python", None),), "", "no driver")
    broken = runner("print('no memory', file=sys.stderr, flush=True); sys.exit(1)")
    with broken, pytest.raises(WorkerError, match="state could not be measured: exit code 1: no memory"):
        broken.device_state()


def test_a_crash_costs_one_case_and_the_worker_is_replaced(tmp_path):
    flag = tmp_path / "crashed"
    body = f"""
    send(event="phases", names=["build"])
    if not os.path.exists({str(flag)!r}):
        open({str(flag)!r}, "w").close()
        print("last words", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    answer()
    """
    with runner(body) as one:
        first = one.measure(case())
        before = one.environment.extras["pid"]
        second = one.measure(case())
        assert one.environment.extras["pid"] != before
    assert first.outcome is Outcome.CRASHED
    assert first.reason == "the measuring process ended (signal SIGSEGV): last words"
    assert second.outcome is Outcome.COMPLETED


def test_a_dead_child_of_a_live_worker_does_not_replace_it():
    with runner("send(event='death', exit_code=-15) if request['case']['height'] == 1 else answer()") as one:
        first = one.measure(case(side=1))
        before = one.environment.extras["pid"]
        assert one.measure(case()).outcome is Outcome.COMPLETED
        assert one.environment.extras["pid"] == before
    assert (first.outcome, first.reason) == (Outcome.CRASHED, "the measuring process ended (signal SIGTERM)")


def test_a_hang_ends_with_the_worker_and_its_children(tmp_path):
    pid_file = tmp_path / "pid"
    body = f"""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    open({str(pid_file)!r}, "w").write(str(child.pid))
    time.sleep(60)
    """
    with runner(body, timeout_seconds=2.0) as one:
        result = one.measure(case())
    assert result.outcome is Outcome.TIMED_OUT
    assert "no end after 2 s" in result.reason
    assert gone(int(pid_file.read_text()))


def gone(pid):
    for _ in range(50):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False


def test_a_worker_that_retires_is_replaced():
    with runner("end(retires=True); break") as one:
        assert one.measure(case()).outcome is Outcome.COMPLETED
        before = one.environment.extras["pid"]
        assert one.measure(case()).outcome is Outcome.COMPLETED
        assert one.environment.extras["pid"] != before


def test_stopped_from_another_thread_it_raises_and_leaves_nothing():
    with runner("time.sleep(60)") as one:
        one.open()
        pid = one.environment.extras["pid"]
        threading.Timer(0.2, one.stop).start()
        with pytest.raises(WorkerError, match="stopped"):
            one.measure(case())
        with pytest.raises(WorkerError, match="stopped"):
            one.measure(case())
    assert gone(pid)


def test_variables_reach_the_worker():
    body = "end(reason=os.environ['CARD'])"
    program = PREAMBLE + "    " + body
    with Runner(Settings(), environ={"CARD": "t4"}, command=(sys.executable, "-c", program)) as one:
        assert one.measure(case()).reason == "t4"


def test_a_worker_that_cannot_start_is_one_line():
    broken = Runner(Settings(), command=(sys.executable, "-c", "raise SystemExit('no torch here')"))
    with broken, pytest.raises(WorkerError, match="did not start: exit code 1: no torch here"):
        broken.open()


def test_a_worker_that_is_killed_while_it_starts_is_started_once_more(tmp_path):
    flag = tmp_path / "killed"
    killed = f"""
import os, signal
if not os.path.exists({str(flag)!r}):
    open({str(flag)!r}, "w").close()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    program = killed + PREAMBLE + "    answer()"
    with Runner(Settings(), command=(sys.executable, "-c", program)) as one:
        assert one.measure(case()).outcome is Outcome.COMPLETED
    always = Runner(Settings(), command=(sys.executable, "-c", "import os; os.kill(os.getpid(), 15)"))
    with always, pytest.raises(WorkerError, match=r"did not start: signal SIGTERM$"):
        always.open()


@pytest.mark.parametrize("call", ["pipe", "memfd_create", "fork"])
def test_what_the_system_refuses_is_one_line(monkeypatch, call):
    def refused(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    if call == "fork":
        monkeypatch.setattr(subprocess, "Popen", refused)
    else:
        monkeypatch.setattr(os, call, refused)
        monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers
    one = Runner(Settings())
    with one, pytest.raises(WorkerError, match=r"cannot be started: Too many open files; ulimit -n .* raise it"):
        one.open()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


def test_a_command_without_standard_streams_measures_too():
    code = f"""
import os, sys
out = os.dup(1)
os.closerange(0, 3)
from attnprof.cases.settings import Settings
from attnprof.measure.runner import Runner
from support.samples import case
program = {PREAMBLE + "    print('chatter', file=sys.stderr); answer()"!r}
with Runner(Settings(), command=(sys.executable, "-c", program)) as one:
    result = one.measure(case())
os.write(out, (result.outcome.value + " " + result.reason).encode())
"""
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environ)
    assert done.stdout == "completed ", done.stderr


def test_a_device_that_is_not_here_is_one_line():
    program = PREAMBLE.replace(
        'send(event="device", environment', 'send(event="refusal", reason="no such device", environment'
    )
    refusing = Runner(Settings(device="cuda"), command=(sys.executable, "-c", program))
    with refusing, pytest.raises(WorkerError, match="no such device"):
        refusing.open()


@pytest.mark.parametrize(
    "before",
    [
        "end(id=number - 1, reason='of the last case')",
        "end(id=number + 1, reason='of the next case')",
        "send(event='phases', id=number - 1, names=['latency'])",
        "os.write(channel['bell'], b'{\"event\": \"case\"}' + b'x' * 10**6)",
        "print('x' * 10**6, flush=True)",
        "os.write(2, b'no end of line')",
    ],
)
def test_what_does_not_belong_to_the_request_is_left_alone(before):
    entered = []
    with runner(f"{before}; time.sleep(0.3); answer()") as one:
        for _ in range(2):
            result = one.measure(case(), entered.append)
            assert (result.outcome, result.measurement.notes) == (Outcome.COMPLETED, ("ok",))
    assert entered == []


def test_an_answer_is_found_although_the_bell_and_the_output_are_closed():
    with runner("[os.close(each) for each in (1, 2, channel['bell'])]; answer(); time.sleep(60)") as one:
        one.open()
        begun = time.monotonic()
        assert one.measure(case()).outcome is Outcome.COMPLETED
        assert time.monotonic() - begun < 5


def test_a_worker_that_ended_before_the_case_began_is_replaced_and_asked_again(tmp_path):
    flag = tmp_path / "ended"
    body = f"""
    if not os.path.exists({str(flag)!r}):
        open({str(flag)!r}, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    answer()
    """
    with runner(body) as one:
        assert one.measure(case()).outcome is Outcome.COMPLETED
    with runner("sys.exit(3)") as one:
        result = one.measure(case())
    assert (result.outcome, result.reason) == (Outcome.CRASHED, "the measuring process ended (exit code 3)")


def test_a_killed_process_is_explained():
    with runner("send(event='phases', names=['build']); os.kill(os.getpid(), signal.SIGKILL)") as one:
        result = one.measure(case())
    assert result.reason == (
        "the measuring process was killed, probably because this machine ran out of memory: end other programs, or ask "
        "for less with --budget or a smaller batch"
    )


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ('put(mailbox.answer, "hello")', "not JSON: "),
        ("send(event='happy')", "$"),
        ("end(flops=-1)", "$.result.measurement.flops: expected int >= 0"),
        ("end(latency={})", "$.result.measurement.latency: object missing required field samples_seconds"),
    ],
)
def test_what_is_no_message_is_a_crash_of_the_case(said, why):
    with runner(said) as one:
        result = one.measure(case())
    assert result.outcome is Outcome.CRASHED
    assert result.reason.startswith(f"it sent what is no message: {why}")


def test_the_worker_ends_with_the_runner():
    with runner("answer()") as one:
        one.measure(case())
        pid = one.environment.extras["pid"]
    assert gone(pid)
