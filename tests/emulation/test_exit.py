"""The end of a process with an emulated card, while threads of PyTorch still want Python's global lock."""

import os
import subprocess
import sys

import pytest

# The thread never stops: whenever the main one ends, autograd's thread and this one are in the midst of a graph.
TRAINING_THREAD = """
import threading, torch

class Twice(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 2

def train():
    x = torch.zeros(3, device="cuda", requires_grad=True)
    while True:
        y = x
        for _ in range(50):
            y = Twice.apply(y)
        y.sum().backward()
        trained.set()

trained = threading.Event()
threading.Thread(target=train, daemon=True).start()
trained.wait()
"""
# A thread of C that ends itself in the usual way, and is waited for.
JOINED_THREAD = """
import ctypes, sys

libc = ctypes.CDLL(None)
thread = ctypes.c_ulong()
address = ctypes.cast(libc.pthread_exit, ctypes.c_void_p)
assert libc.pthread_create(ctypes.byref(thread), None, address, ctypes.c_void_p(7)) == 0
value = ctypes.c_void_p()
libc.pthread_join(thread, ctypes.byref(value))
sys.exit(value.value)
"""


def run(environ, code):
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, **environ}
    )


@pytest.mark.parametrize("code", [0, 3])
def test_a_program_ends_cleanly_while_autograd_is_at_work(on_card, code):
    # PyTorch would wait as long for threads that do not end, by default for ten seconds.
    environ = {**on_card("t4"), "TORCH_AUTOGRAD_SHUTDOWN_WAIT_LIMIT": "600"}
    done = run(environ, f"{TRAINING_THREAD}\nraise SystemExit({code})")
    assert (done.returncode, done.stderr) == (code, "")


def test_other_threads_end_as_ever(on_card):
    assert run(on_card("t4"), JOINED_THREAD).returncode == 7
