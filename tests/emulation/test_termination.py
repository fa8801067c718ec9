"""SIGTERM in a watched program and in the children that it forks."""

import subprocess
import sys

PROGRAM = """
import os, signal, sys
from attnprof.emulation.watch.termination import Termination

termination = Termination(lambda number, frame: os.write(1, b"handled") and os._exit(3))
if sys.argv[1] == "own":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
termination.follow()
before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
child = os.fork()
kept = signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
if not child:
    os.kill(os.getpid(), signal.SIGTERM)
    os._exit(7 if kept else 8)
print(os.waitpid(child, 0)[1], kept, flush=True)
os.kill(os.getpid(), signal.SIGTERM)
"""


def run(*arguments):
    """Return the exit code and the output of a program that forks a child which ends itself with SIGTERM."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.split()


def test_a_forked_child_dies_of_the_signal_and_its_parent_handles_it():
    assert run("none") == (3, ["15", "True", "handled"])


def test_a_handler_of_the_program_stays_its_own():
    assert run("own") == (0, [str(7 << 8), "True"])
