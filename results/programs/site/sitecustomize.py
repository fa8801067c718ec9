"""At a process's end, append the statistics of PyTorch's allocator to the file that PROGRAM_STATISTICS names."""

import atexit
import json
import os
import sys
from pathlib import Path

_FIGURES = {
    "allocations": "allocation.all.allocated",
    "allocated_bytes_in_all": "allocated_bytes.all.allocated",
}


def _write() -> None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return
    statistics = torch.cuda.memory_stats()
    line = json.dumps({"pid": os.getpid(), **{name: statistics[key] for name, key in _FIGURES.items()}})
    with Path(os.environ["PROGRAM_STATISTICS"]).open("a", encoding="ascii") as stream:
        stream.write(line + "\n")


if "PROGRAM_STATISTICS" in os.environ:
    atexit.register(_write)
