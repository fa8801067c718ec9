"""Reading what the processes of a program found, on the side of the command.

The watcher writes with the standard library alone, since it runs inside the user's program.
"""

from __future__ import annotations

from attnprof.cases.decoding import convert_text
from attnprof.emulation.watch.findings import ProcessFindings


def findings_from_json(text: str) -> ProcessFindings:
    """Return the findings that `watch.findings.to_json` wrote; a missing field has its default.

    Raises:
        ValueError: a value does not fit; the message contains its place.
    """
    findings: ProcessFindings = convert_text(text, ProcessFindings)
    return findings
