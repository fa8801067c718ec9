"""Models that hurt the process they run in. Each is a subclass of `Net`, whose figures are known from a run alone."""

import ctypes
import mmap
import os
import signal
import sys
import time

import numpy as np
from torch import nn

from support.sagan import SaganBlock

FORGED = b'{"event": "case", "id": 3, "result": {"outcome": "completed", "reason": "", "measurement": {}}}\n'


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 32, 1)
        self.attention = SaganBlock(32)

    def harm(self):
        pass

    def forward(self, x):
        self.harm()
        return self.attention(self.first(x))


class Forks(Net):
    def harm(self):
        os.fork()


class ForksInInit(Net):
    def __init__(self):
        os.fork()
        super().__init__()


class LeavesAProcess(Net):
    def harm(self):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)


class WritesToEverything(Net):
    def harm(self):
        for descriptor in range(64):
            try:
                os.set_blocking(descriptor, False)
                os.write(descriptor, FORGED)
                os.write(descriptor, b"x" * 2**20)
            except OSError:
                pass


class ClosesEverything(Net):
    def harm(self):
        os.closerange(0, 4096)


class Exits0(Net):
    def harm(self):
        os._exit(0)


class Exits7(Net):
    def harm(self):
        os._exit(7)


class ExitsInInit(Net):
    def __init__(self):
        os._exit(3)


class ExitsInC(Net):
    def harm(self):
        ctypes.CDLL(None).exit(5)


class LeavesPython(Net):
    def harm(self):
        sys.exit(0)


class LeavesPythonInInit(Net):
    def __init__(self):
        sys.exit("bye")


class Interrupts(Net):
    def harm(self):
        raise KeyboardInterrupt


class ReadsANullPointer(Net):
    def harm(self):
        ctypes.string_at(0)


class Aborts(Net):
    def harm(self):
        os.abort()


class KillsItself(Net):
    def harm(self):
        os.kill(os.getpid(), signal.SIGKILL)


class KillsItsParent(Net):
    def harm(self):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)


class BecomesAnother(Net):
    def harm(self):
        os.execv("/bin/true", ["true"])


class Asks(Net):
    def harm(self):
        input("continue? ")


class NamelessError(Exception):
    def __str__(self):
        raise ValueError("no text")


class RaisesWhatHasNoText(Net):
    def harm(self):
        raise NamelessError


class RaisesAHugeText(Net):
    def harm(self):
        raise ValueError("x" * 50_000_000)


class HidesItsProcess(Net):
    def harm(self):
        os.getpid = lambda: 1


class Hangs(Net):
    def harm(self):
        time.sleep(600)


class LeavesTraces(Net):
    def harm(self):
        os.chdir("/")
        signal.alarm(1)


class TakesNumpysMemory(Net):
    def harm(self):
        self.held = np.ones(2**42, np.int8)


class TakesMappedMemory(Net):
    def harm(self):
        self.held = mmap.mmap(-1, 2**42, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


class TakesMemoryInInit(Net):
    def __init__(self):
        super().__init__()
        self.held = np.ones(2**42, np.int8)
