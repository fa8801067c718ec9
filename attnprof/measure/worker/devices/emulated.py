"""An emulated card (`attnprof.emulation`): the CUDA device, and the emulation's remarks on a case."""

from __future__ import annotations

import ctypes
import dataclasses
import os
from collections.abc import Callable

from attnprof.cases.cards import parse_cards
from attnprof.cases.environment import Environment
from attnprof.cases.measurement import Estimate, Source
from attnprof.emulation.watch.journal import EmulatedDriver, Workspace
from attnprof.measure.worker.devices.cuda import CudaDevice
from attnprof.measure.worker.passes.roofline import estimated_step


class EmulatedDevice(CudaDevice):
    """An emulated card. Its memory is read like a card's; nothing is computed, and no time means anything."""

    source = Source.EMULATED

    def __init__(self, index: int, driver: EmulatedDriver) -> None:
        super().__init__(index)
        self._driver = driver

    def environment(self) -> Environment:
        return dataclasses.replace(
            super().environment(),
            driver="emulated",
            gpu=os.environ["ATTNPROF_GPU"],
            context_bytes=self._context_bytes(),
            cudnn_plans=self._cudnn_plans(),
        )

    def forget(self) -> None:
        self._driver.clear()

    def unknown_calls(self) -> tuple[str, ...]:
        return self._driver.journal().unknown

    def estimated(self, step: Callable[[], None]) -> Estimate | None:
        [card] = parse_cards(os.environ["ATTNPROF_GPU"])
        return estimated_step(step, card)

    def workspaces(self) -> list[Workspace] | None:
        return self._driver.workspaces()

    def notes(self) -> tuple[str, ...]:
        journal = self._driver.journal()
        notes = [f"emulation assumes that {line}" for line in journal.assumed]
        if journal.reads.made_up:
            notes.append(
                "read values back from the device that emulation made up: "
                "sizes and branches that depend on them are not those of a card"
            )
        if journal.reads.drawn:
            notes.append(
                "read values back from the device that depend on random numbers, which are not the card's own: "
                "sizes that depend on them differ from a card's"
            )
        return tuple(notes)

    def _cudnn_plans(self) -> bool:
        """Return whether the real cuDNN chooses kernels and workspaces for the card."""
        return bool(ctypes.CDLL("libcudnn.so.9").attnprof_cudnn_plans())
