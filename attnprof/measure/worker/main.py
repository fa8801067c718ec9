"""The process that measures: reads requests as JSON lines, answers with JSON lines.

Apart from the command, so that an out-of-memory, a crash or a hang costs one case. Torch takes
seconds to import, so one worker serves a whole sweep:

- On the CPU it never computes anything itself but forks a child for each case. Every case starts
  from the same clean state, whatever ran before it, and can be limited or killed alone.
- With CUDA, which does not survive a fork, it measures in place and cleans up behind each case;
  if anything stays allocated the answer says so, `"retires": true`, and the runner replaces it.

Requests: {"verb": "open", "device"}, {"verb": "state"}, {"verb": "rate", "dtype"} and {"verb":
"measure", "case", "settings"}. Answers: any number of {"event": "phase"}, then one {"event": "done"},
{"event": "error"} or, when a forked child died, {"event": "died"}.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from typing import IO, Any

Message = Mapping[str, Any]


def main() -> None:
    _die_with_parent()
    channel = _claim_stdout()

    def send(message: Message) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    # These import torch: all of them here, so that no forked child has to.
    from attnprof.cases.case import Case
    from attnprof.cases.settings import Settings
    from attnprof.measure.worker.case import measure
    from attnprof.measure.worker.devices.base import Device, DeviceError
    from attnprof.measure.worker.devices.select import open_device
    from attnprof.measure.worker.passes.flops import matmul_flops_per_second

    def serve(device: Device, request: Message) -> Message:
        if request["verb"] == "rate":
            return {"event": "done", "flops_per_second": matmul_flops_per_second(device, request["dtype"])}
        if request["verb"] == "state":
            return {"event": "done", **asdict(device.state())}
        case, settings = Case.from_json(request["case"]), Settings(**request["settings"])
        result = measure(case, settings, device, lambda phase: send({"event": "phase", "phase": phase}))
        return {"event": "done", **result.to_json()}

    def answer(device: Device, request: Message) -> None:
        send(serve(device, request))

    send({"event": "done"})
    device: Device | None = None
    for line in sys.stdin:
        request = json.loads(line)
        if request["verb"] == "open":
            try:
                device = open_device(request["device"])
            except DeviceError as error:
                send({"event": "error", "reason": str(error)})
                continue
            send({"event": "done", "environment": device.environment().to_json(), "source": device.source.value})
        elif device is None:
            send({"event": "error", "reason": "no device is open"})
        elif device.forks and request["verb"] != "state":  # a fork is not told why there is no CUDA
            exit_code = _in_child(partial(answer, device, request))
            if exit_code:
                send({"event": "died", "exit_code": exit_code})
        else:
            result = serve(device, request)
            retires = not device.emptied()
            gc.freeze()  # only modules are left: the next collections need not look at them
            send({**result, "retires": retires})
            if retires:
                return


def _in_child(serve: Callable[[], None]) -> int:
    """Run in a forked child; its exit code, negative for a signal."""
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


def _claim_stdout() -> IO[str]:
    """A channel of our own on what was stdout; whatever libraries print goes to stderr."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return channel


def _die_with_parent() -> None:
    """Linux: do not outlive a command that was killed (prctl(2), PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    main()
