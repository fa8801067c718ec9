"""What the doctor says of made-up states, and what it is told of this machine's own."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from support.samples import ENVIRONMENT

import attnprof.emulation
from attnprof.cases.device_state import IN_CONTAINER, NO_BINDINGS, DeviceState, OtherProcess
from attnprof.cases.measurement import Measurement, Outcome, Result, Source
from attnprof.emulation.toolkit import EmulationError
from attnprof.errors import WorkerError
from attnprof.measure import host_memory
from attnprof.measure.worker.devices import nvml
from attnprof.studies import doctor

GIB = 2**30
ALL = {"flash": "", "cudnn": "", "efficient": "", "math": ""}
NO_DRIVER = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"


def device_state(**fields):
    return DeviceState(**{"free_bytes": 14 * GIB, "total_bytes": 16 * GIB, "kernels": {"fp32": ALL}, **fields})


CPU = replace(ENVIRONMENT, torch="2.9.0", device_name="Some CPU")
CARD = replace(
    CPU,
    cuda="13.0",
    cudnn=92400,
    device="cuda:0",
    device_name="Some GPU",
    compute_capability="6.0",
    total_memory_bytes=16 * GIB,
)


@pytest.fixture
def examined(monkeypatch):
    """The findings where the worker answers as given; there is no emulation."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(doctor, "version", lambda _: "2.9.0")

    def no_emulation(*_, **__):
        raise EmulationError("no C compiler: install gcc, or set CC")

    monkeypatch.setattr(attnprof.emulation, "emulation_environment", no_emulation)

    def examine(environment, state, result=None, opening=None):
        class Worker:
            source = Source.MEASURED

            def __init__(self, _):
                self.environment = environment

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            def open(self):
                if opening:
                    raise opening

            def device_state(self):
                return state

            def measure(self, _):
                return result

        monkeypatch.setattr(doctor, "Runner", Worker)
        findings = list(doctor.examine(lambda _: None))
        assert all(finding.fine or finding.action or finding.topic == "emulation" for finding in findings)
        return findings

    return examine


def told(findings, topic):
    return [(finding.text, finding.fine, finding.action) for finding in findings if finding.topic == topic]


@pytest.mark.parametrize(
    ("said", "hidden", "why", "action"),
    [
        (NO_DRIVER, None, "there is no NVIDIA driver", "install its driver"),
        (NO_DRIVER, "", "there is no NVIDIA driver (and CUDA_VISIBLE_DEVICES is '')", "install its driver"),
        ("Torch not compiled with CUDA enabled", None, "built for the CPU alone", "install a CUDA build of torch"),
        (
            "The NVIDIA driver on your system is too old (found version 11040). Please",
            None,
            "older",
            "update the driver",
        ),
        ("No CUDA GPUs are available", "-1", "CUDA_VISIBLE_DEVICES is '-1'", "unset CUDA_VISIBLE_DEVICES"),
        ("No CUDA GPUs are available", None, "No CUDA GPUs are available", "nvidia-smi"),
    ],
)
def test_why_there_is_no_cuda_device_and_what_to_do(examined, monkeypatch, said, hidden, why, action):
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    [(text, fine, advice)] = told(examined(CPU, device_state(no_cuda=said)), "device")
    assert text.startswith("Some CPU, 2 threads; no CUDA device: ")
    assert why in text
    assert fine
    assert action in advice


def test_who_holds_the_memory(examined):
    others = tuple(
        OtherProcess(pid, name, (9 - pid) * GIB) for pid, name in enumerate(["", "python", "Xorg", "a", "b"], 1)
    )
    [(text, fine, action)] = told(examined(CPU, device_state(free_bytes=GIB, other_processes=others)), "memory")
    assert text == (
        "1.00 GiB free of 16.0 GiB; held by pid 1 8.00 GiB, python (pid 2) 7.00 GiB, Xorg (pid 3) 6.00 GiB and 2 more"
    )
    assert not fine
    assert "--budget" in action
    assert told(examined(CPU, device_state()), "memory") == [
        ("14.0 GiB free of 16.0 GiB; no other process has much of it", True, "")
    ]


@pytest.mark.parametrize(
    ("unnamed", "action"),
    [(NO_BINDINGS, "pip install nvidia-ml-py"), (IN_CONTAINER, "run nvidia-smi on the host"), ("x", "nvidia-smi")],
)
def test_where_the_other_processes_cannot_be_told(examined, unnamed, action):
    result = Result(Outcome.CRASHED, "signal SIGSEGV", Measurement())
    state, why = told(examined(CARD, device_state(unnamed=unnamed), result), "memory")
    assert state[0] == "14.0 GiB free of 16.0 GiB"
    assert why[0] == f"cannot list the processes that use this memory: {unnamed}"
    assert action in why[2]


def test_kernels_are_told_by_dtype(examined):
    half = {"flash": "GPU too old", "cudnn": "dtype not supported", "efficient": "dtype not supported", "math": ""}
    kernels = {"fp32": ALL, "fp16": ALL, "bf16": half}
    assert told(examined(CPU, device_state(kernels=kernels)), "kernels") == [
        ("fp32, fp16: flash, cudnn, efficient, math", True, ""),
        ("bf16: math (no flash: GPU too old; no cudnn, efficient: dtype not supported)", True,
         "in bf16 use chunked or online: sdpa-pad takes N^2 here"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("outcome", "reason", "action"),
    [
        (Outcome.UNSUPPORTED, "CUDA error: no kernel image is available", "a torch built for compute capability 6.0"),
        (Outcome.OUT_OF_MEMORY, "CUDA out of memory", "end the other processes"),
        (Outcome.CRASHED, "signal SIGSEGV", "update the driver"),
    ],
)
def test_a_training_step_that_fails_on_the_card(examined, outcome, reason, action):
    [(text, fine, advice)] = told(examined(CARD, device_state(), Result(outcome, reason, Measurement())), "context")
    assert reason in text
    assert not fine
    assert action in advice


def test_a_torch_that_does_not_start_or_is_old(examined, monkeypatch):
    monkeypatch.setattr(doctor, "version", lambda _: "2.5.1+cu121")
    old, broken = told(examined(CPU, device_state(), opening=WorkerError("did not start: no libcudart")), "torch")
    assert old == ("2.5.1+cu121 is too old for attnprof", False, "pip install 'torch>=2.6'")
    assert broken[:2] == ("did not start: no libcudart", False)
    oldest = ".".join(map(str, doctor._OLDEST_TORCH))
    assert f'"torch>={oldest}"' in (Path(__file__).parents[2] / "pyproject.toml").read_text()


# ---- who holds what -----------------------------------------------------------------------------------


def test_a_large_process_is_named_and_this_one_is_not(monkeypatch):
    monkeypatch.setattr(host_memory, "total_bytes", lambda: GIB)
    with subprocess.Popen(
        [sys.executable, "-c", "held = bytes(range(256)) * 2**19; print(len(held), flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == b"134217728\n"
        found = {process.pid: process for process in host_memory.other_processes()}
        process.communicate(b"\n")
    assert found[process.pid].name.startswith("python")
    assert 2**27 < found[process.pid].held_bytes < 2**28
    assert host_memory.os.getpid() not in found


class Nvml:
    """Two processes that compute on the card, this one first, and two that draw on it."""

    class NVMLError(Exception):
        pass

    def __init__(self, compute, graphics=()):
        self.compute, self.graphics = compute, graphics

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802 - the library's own name
        if uuid != "GPU-1":
            raise self.NVMLError("Not Found")
        return uuid

    def nvmlDeviceGetComputeRunningProcesses(self, _):  # noqa: N802
        return self.compute

    def nvmlDeviceGetGraphicsRunningProcesses(self, _):  # noqa: N802
        if self.graphics is None:
            raise self.NVMLError("Not Supported")
        return self.graphics


def process(pid, used):
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


def test_other_processes_on_a_card(monkeypatch):
    own, nobody = process(nvml.os.getpid(), 5), 2**22 + 1  # beyond Linux's largest pid
    monkeypatch.setattr(nvml, "nvml", lambda: Nvml([own, process(nobody, 7)], [process(1, 9), process(2, None)]))
    others, unnamed = nvml.other_processes("GPU-1")
    assert unnamed == ""
    assert [(process.pid, process.held_bytes) for process in others] == [(1, 9), (nobody, 7), (2, None)]
    assert others[0].name
    assert others[1].name == ""
    monkeypatch.setattr(nvml, "nvml", lambda: Nvml([own], None))
    assert nvml.other_processes("GPU-1") == ((), "")


def test_why_the_processes_on_a_card_cannot_be_told(monkeypatch):
    monkeypatch.setattr(nvml, "nvml", lambda: Nvml([process(1, 9)]))
    assert nvml.other_processes("GPU-1") == ((), IN_CONTAINER)
    assert nvml.other_processes("GPU-2") == ((), "NVML says: Not Found")
    assert nvml.own_bytes("GPU-1") is None
    monkeypatch.setattr(nvml, "nvml", lambda: None)
    monkeypatch.setattr(nvml, "find_spec", lambda _: None)
    assert nvml.other_processes("GPU-1") == ((), NO_BINDINGS)
    monkeypatch.setattr(nvml, "find_spec", lambda _: "there")
    assert nvml.other_processes("GPU-1") == ((), "NVML does not start here")


def test_bindings_newer_than_the_driver_are_no_fault(monkeypatch):
    class Newer(Nvml):
        class NVMLLibraryMismatchError(Exception):
            pass

        def nvmlDeviceGetComputeRunningProcesses(self, _):  # noqa: N802
            raise self.NVMLLibraryMismatchError("does not match")

    monkeypatch.setattr(nvml, "nvml", lambda: Newer([]))
    assert nvml.own_bytes("GPU-1") is None
    assert nvml.other_processes("GPU-1") == ((), "NVML says: does not match")


def test_the_card_itself_is_looked_at(on_card):
    done = subprocess.run(
        [sys.executable, "-m", "attnprof", "doctor"], capture_output=True, text=True, check=False,
        env={**doctor.os.environ, **on_card("t4"), "COLUMNS": "80"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    said = re.sub(r"\s+", " ", done.stdout)
    assert "cuda:0 Tesla T4, 14.6 GiB, compute capability 7.5 (emulated)" in said
    assert "14.4 GiB free of 14.6 GiB" in said
    assert ("no other process has much of it" in said) != ("-> pip install nvidia-ml-py" in said)
    assert "fp16: efficient, math (no flash, cudnn: GPU too old)" in said
    assert "-> in bf16 use chunked or online" in said
