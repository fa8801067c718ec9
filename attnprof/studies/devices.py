"""The runners of a study: one for the device that is measured, or one for each emulated card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from attnprof.cases.cards import Card
from attnprof.cases.settings import Settings
from attnprof.measure.runner import Runner


class RunnerMaker(Protocol):
    """A function that makes a runner; tests put a scripted one in its place."""

    def __call__(self, settings: Settings, card: Card | None, tell: Callable[[str], None]) -> Runner:
        """Make a runner that is not open yet."""


def make_runner(settings: Settings, card: Card | None, tell: Callable[[str], None] = lambda _: None) -> Runner:
    """Make a runner for an emulated card or, without one, for the device of the settings.

    Args:
        settings: for every case, unless a case is given others.
        card: the card to emulate, or None.
        tell: called with a line of text before something that takes a while.

    Raises:
        AttnprofError: cards cannot be emulated here.
    """
    if card is None:
        return Runner(settings)
    from attnprof.emulation import emulation_environment

    environ = emulation_environment(card, tell, values=settings.values)
    return Runner(replace(settings, device="cuda"), card=card, environ=environ)
