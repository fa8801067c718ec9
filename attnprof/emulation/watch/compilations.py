"""Functions that `torch.compile` could not compile, from torch's own notes on its compilations.

A program may let torch go on without compiling (`torch._dynamo.config.suppress_errors`), and then shows no error.
"""

from __future__ import annotations

import sys
from typing import Any

_WORDS = "torch.compile"  # emulation/unemulated.py knows it
_MISSING = ("libcuda.so cannot found", "0 active drivers")


def failed_compilations() -> tuple[str, ...]:
    """Return `torch.compile` as a call that is not emulated if a compilation failed for want of the driver."""
    dynamo: Any = sys.modules.get("torch._dynamo.utils")
    if dynamo is None or not hasattr(dynamo, "get_compilation_metrics"):
        return ()
    reasons = [str(getattr(one, "fail_reason", "")) for one in dynamo.get_compilation_metrics()]
    return (_WORDS,) if any(words in reason for reason in reasons for words in _MISSING) else ()
