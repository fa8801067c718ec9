"""The process that measures: reads requests as JSON lines, answers with JSON lines (`attnprof.measure.messages`).

It is apart from the command, so that an out-of-memory, a crash or a hang costs one case. Torch takes
seconds to import, so one worker serves a whole sweep:

- On the CPU it never computes anything itself but forks a child for each case. Every case starts
  from the same clean state, whatever ran before it, and can be limited or killed alone.
- With CUDA, which does not survive a fork, it measures in place and cleans up behind each case;
  if anything stays allocated the answer contains `"retires": true`, and the runner replaces it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from typing import BinaryIO

from attnprof.measure.messages import DeathMessage, Message, ReadyMessage, request_from_line, to_line


def main() -> None:
    """Serve requests from stdin until it ends, or until memory stays on the device."""
    _die_with_parent()
    channel = _claim_stdout()

    def send(message: Message) -> None:
        channel.write(to_line(message))
        channel.flush()

    # Imports torch: after stdout is claimed, since libraries print, and before any child is forked.
    from attnprof.measure.worker.service import Service, retires

    service = Service(send)
    send(ReadyMessage())
    for line in sys.stdin.buffer:
        request = request_from_line(line)
        if service.forks(request):
            exit_code = _in_child(lambda request=request: send(service.answer(request)))  # type: ignore[misc]
            if exit_code:
                send(DeathMessage(exit_code))
            continue
        answer = service.cleaned_up(service.answer(request))
        send(answer)
        if retires(answer):
            return


def _in_child(serve: Callable[[], None]) -> int:
    """Run a function in a forked child; return its exit code, negative for a signal."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _die_with_parent()
            serve()
            status = 0
        except BaseException:
            # Written and not raised: the child must not go on as a second worker.
            sys.excepthook(*sys.exc_info())
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, wait_status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(wait_status)


def _claim_stdout() -> BinaryIO:
    """Return a channel of our own on what was stdout; whatever libraries print goes to stderr."""
    channel = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return channel


def _die_with_parent() -> None:
    """On Linux, do not outlive a command that was killed (prctl(2), PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    main()
