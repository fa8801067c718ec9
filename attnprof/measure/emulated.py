"""A card that is emulated (`attnprof.emulation`): the CUDA device, and what its emulation has to say of a case."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from attnprof.catalogue import parse_cards
from attnprof.measure.cuda import CudaDevice
from attnprof.measure.roofline import estimated_step
from attnprof.record import Estimate, Source


class _Journal(ctypes.Structure):
    """The Journal of emulation/native/journal.c."""

    _fields_: ClassVar[Sequence[tuple[str, Any]]] = (
        ("read_backs", ctypes.c_uint64),
        ("unknown", ctypes.c_char * 2048),
        ("assumed", ctypes.c_char * 2048),
    )


def emulated_driver() -> ctypes.CDLL | None:
    """The driver library of this process if it is the emulation's, told by a symbol that no real one has."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    return driver if hasattr(driver, "attnprof_read_journal") else None


class EmulatedDevice(CudaDevice):
    """Measured as a card is, in memory alone: nothing is computed, and nothing takes its time."""

    source = Source.EMULATED

    def __init__(self, index: int, driver: ctypes.CDLL) -> None:
        super().__init__(index)
        self._driver = driver

    def environment(self) -> dict[str, Any]:
        found = super().environment()
        return {
            **found,
            "driver": "emulated",
            "gpu": os.environ["ATTNPROF_GPU"],
            "context_bytes": self._context_bytes(),
            "cudnn_plans": self._cudnn_plans(),
        }

    def forget(self) -> None:
        self._driver.attnprof_clear_journal()

    def unknown_calls(self) -> tuple[str, ...]:
        return self._lines("unknown")

    def estimated(self, step: Callable[[], None]) -> Estimate | None:
        [card] = parse_cards(os.environ["ATTNPROF_GPU"])
        return estimated_step(step, card)

    def notes(self) -> tuple[str, ...]:
        notes = [f"emulation assumes that {line}" for line in self._lines("assumed")]
        read_backs = self._journal().read_backs
        if read_backs:
            notes.append(
                "read values back from the device, which emulation answers with zeros: "
                "sizes that depend on them are not those of a card"
            )
        return tuple(notes)

    def _cudnn_plans(self) -> bool:
        """Whether the real cuDNN chooses kernels and workspaces for the card."""
        return bool(ctypes.CDLL("libcudnn.so.9").attnprof_cudnn_plans())

    def _lines(self, field: str) -> tuple[str, ...]:
        text: bytes = getattr(self._journal(), field)
        return tuple(text.decode().splitlines())

    def _journal(self) -> _Journal:
        journal = _Journal()
        self._driver.attnprof_read_journal(ctypes.byref(journal))
        return journal
