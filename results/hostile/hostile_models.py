"""The hostile models: each a body of `forward`, or of the whole file, and how its case may end.

Ends: `told` (refused with the file and the line), `exit` (ended the process: told with the model, and not at the
time-out), `late` (the time-out is right), `fine` (measured all the same), `any` (whichever, but in time).
"""

HEAD = """\
import atexit, ctypes, gc, json, os, signal, socket, subprocess, sys, threading, time, warnings
import numpy, torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(256, 256, bias=False)

    def forward(self, x):
        {body}
        return self.layer(x)
"""
GOOD = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(256, 512, bias=False)

    def forward(self, x):
        return self.layer(x)
"""
ANSWER = '{"event":"case","result":{"outcome":"completed","reason":"forged","measurement":{}},"retires":false}\\n'
TO_ALL = """for fd in range(1, 64):
            try:
                os.write(fd, {data})
            except OSError:
                pass"""

BODIES = {
    "plain": ("pass", "fine"),
    # Ends of the process.
    "os._exit(0)": ("os._exit(0)", "exit"),
    "os._exit(7)": ("os._exit(7)", "exit"),
    "sys.exit()": ("sys.exit()", "exit"),
    "sys.exit(words)": ("sys.exit('bye \\x1b[2J')", "exit"),
    "SIGKILL to itself": ("os.kill(os.getpid(), 9)", "exit"),
    "SIGSEGV": ("ctypes.string_at(0)", "exit"),
    "SIGABRT": ("os.abort()", "exit"),
    "SIGTERM to its parent": ("os.kill(os.getppid(), signal.SIGTERM); time.sleep(1)", "any"),
    "SIGKILL to its group": ("os.killpg(0, 9)", "exit"),
    "SIGSTOP to itself": ("os.kill(os.getpid(), signal.SIGSTOP)", "late"),
    "KeyboardInterrupt": ("raise KeyboardInterrupt", "exit"),
    "BaseException": ("raise BaseException('base')", "exit"),
    "GeneratorExit": ("raise GeneratorExit", "exit"),
    "recursion in C": ("a = []\n        for _ in range(10**6): a = [a]\n        repr(a)", "exit"),
    # Exceptions.
    "no message": ("raise ValueError", "told"),
    "escapes in the message": ("raise ValueError('a\\x1b[2J\\x1b]0;owned\\x07b\\x9b31m')", "told"),
    "a message of many lines": ("raise ValueError('first\\nsecond\\nthird')", "told"),
    "a message of 10 MB": ("raise ValueError('x' * 10**7)", "told"),
    "a failing __str__": ("""class Odd(Exception):
            def __str__(self): raise RuntimeError('no text')
        raise Odd""", "told"),
    "a surrogate in the message": ("raise ValueError('a\\udcffb')", "told"),
    "a recursion": ("return self.forward(x)", "told"),
    "a group": ("raise BaseExceptionGroup('many', [KeyboardInterrupt(), SystemExit()])", "exit"),
    "a MemoryError": ("raise MemoryError", "any"),
    "warnings": ("warnings.warn('\\x1b[31mred'); warnings.simplefilter('error'); warnings.warn('an error')", "told"),
    # Forks, threads and children.
    "a fork whose child returns": ("os.fork()", "any"),
    "many forks": ("[os.fork() for _ in range(3)]", "any"),
    "a fork whose child sleeps": ("if os.fork() == 0: time.sleep(600)", "any"),
    "a fork whose parent exits": ("if os.fork(): os._exit(0)", "any"),
    "a session of its own": ("os.setsid() if os.getpid() != os.getsid(0) else None", "fine"),
    "a daemon": ("subprocess.Popen(['sleep', '600'], start_new_session=True)", "any"),
    "threads that stay": ("[threading.Thread(target=time.sleep, args=(600,)).start() for _ in range(3)]", "any"),
    "an infinite loop": ("while True: pass", "late"),
    "a deaf infinite loop": ("[signal.signal(n, signal.SIG_IGN) for n in (2, 15)]\n        while True: pass", "late"),
    # Descriptors.
    "garbage to every descriptor": (TO_ALL.format(data="b'\\xff\\x00garbage\\n{\\n'"), "any"),
    "a forged answer to every descriptor": (TO_ALL.format(data=f"b'{ANSWER}'"), "any"),
    "half a line to every descriptor": (TO_ALL.format(data="b'{\"event\":'"), "any"),
    "closed descriptors": ("os.closerange(0, 256)", "any"),
    "devnull on every descriptor": ("""d = os.open('/dev/null', 2)
        [os.dup2(d, n) for n in range(3, 64) if n != d]""", "any"),
    "input()": ("input()", "told"),
    "reads stdin": ("sys.stdin.read()", "any"),
    "prints megabytes": ("print('x' * 5 * 10**6); sys.stderr.write('y' * 5 * 10**6 + '\\n')", "fine"),
    # Memory.
    "100 GB of numpy": ("numpy.ones(100 * 2**27)", "any"),
    "100 GB of torch": ("torch.ones(25 * 2**30)", "any"),
    # Changes of its process.
    "another folder": ("os.chdir('/')", "fine"),
    "its own file removed": ("os.path.exists(__file__) and os.remove(__file__)", "any"),
    "torch changed": ("torch.empty = torch.zeros = torch.manual_seed = torch.Tensor.untyped_storage = None", "any"),
    "json and os changed": ("json.dumps = json.loads = os.write = os._exit = os.fsync = None", "any"),
    "sys.stdout gone": ("sys.stdout = sys.stderr = None; sys.__stdout__ = None", "any"),
    "another default dtype": ("torch.set_default_dtype(torch.float64)", "fine"),
    "hooks and handlers": ("sys.excepthook = print; atexit.register(time.sleep, 600); gc.disable(); "
                           "signal.signal(signal.SIGTERM, signal.SIG_IGN)", "fine"),
    "an alarm": ("signal.alarm(1); time.sleep(2)", "exit"),
    "no environment": ("os.environ.clear()", "fine"),
    "modules gone": ("sys.modules.clear()", "any"),
    "limits of its own": ("""import resource; resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
        while True: pass""", "exit"),
    "no more files": ("import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))", "any"),
    "another result each time": ("self.n = getattr(self, 'n', 0) + 1\n        if self.n > 1: return None", "any"),
}  # fmt: skip
PLAIN = GOOD.replace("512", "256")
FILES = {
    "exits when imported": ("import sys\nsys.exit(0)\n", "told"),
    "os._exit when imported": ("import os\nos._exit(3)\n", "exit"),
    "a syntax error": ("def Net(:\n", "told"),
    "null bytes": ("Net = 1\0\n", "exit"),
    "not UTF-8": ("Net = '\xff'\n".encode("latin-1"), "exit"),
    "a class with an odd name": (PLAIN.replace("class Net", "class 日本語モデル") + "Net = 日本語モデル\n", "fine"),
    "a module that replaces itself": ("import sys\nsys.modules[__name__] = None\n" + PLAIN, "any"),
    "an endless import": ("while True:\n    pass\n", "late"),
    "a constructor that forks": (PLAIN.replace("__init__()", "__init__(); import os; os.fork()"), "any"),
    "a name that is a property": ("""class M(type):
    def __call__(cls): raise SystemExit
class Net(metaclass=M): pass
""", "told"),
}  # fmt: skip


def sources():
    """Return the text of each hostile model and its end, by name."""
    bodies = {name: (HEAD.replace("{body}", body), end) for name, (body, end) in BODIES.items()}
    return {**bodies, **FILES}
