"""The process that measures: receives requests and answers them (`attnprof.measure.messages`).

It is apart from the command, so that an out-of-memory, a crash or a hang costs one case. Torch takes
seconds to import, so one worker serves a whole sweep:

- On the CPU it never computes anything itself but forks a child for each case. Every case starts
  from the same clean state, whatever ran before it, and can be limited or killed alone.
- With CUDA, which does not survive a fork, it measures in place and cleans up behind each case;
  if anything of the case is left the answer contains `"retires": true`, and the runner replaces it.
"""

from __future__ import annotations

import faulthandler
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from attnprof.measure.messages import ReadyMessage
from attnprof.measure.worker.children import Children, be_killed_first, die_with
from attnprof.measure.worker.connection import Connection

if TYPE_CHECKING:
    from attnprof.measure.worker.service import Service


def main(descriptors: Mapping[str, int], command_pid: int) -> None:
    """Serve requests until the command closes its end, or until something of a case is left.

    Args:
        descriptors: as `Connection` takes them.
        command_pid: the process that asks.
    """
    die_with(command_pid)
    be_killed_first()  # children inherit it, and the kernel takes the largest
    # A copy of stderr, which the code under test may close. Signals name the line there (`measure.places`).
    faulthandler.enable(os.dup(sys.__stderr__.fileno()) if sys.__stderr__ else 2)
    connection = Connection(descriptors)

    # Imports torch: before any child is forked.
    from attnprof.measure.worker.service import Service

    service = Service(connection)
    children = Children(connection)
    connection.send(ReadyMessage())
    _serve(service, connection, children)


def _serve(service: Service, connection: Connection, children: Children) -> None:
    from attnprof.measure.worker.service import retires, retiring

    for request in connection.requests():
        if service.forks(request):
            connection.send(children.answer(request.id, lambda request=request: service.answer(request)))  # type: ignore[misc]
            continue
        answer = service.cleaned_up(service.answer(request))
        if children.end_all() or not connection.is_intact():
            answer = retiring(answer)
        connection.send(answer)
        if retires(answer):
            return
