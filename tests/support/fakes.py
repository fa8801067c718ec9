"""A runner that answers from a script, and a listener that notes what is planned."""

import dataclasses

from attnprof.cases.measurement import Measurement, Outcome, Result, Source
from attnprof.studies.listener import Listener
from support.samples import ENVIRONMENT, measurement


class ScriptedRunner:
    """Runs out of memory from a given number of positions on, for `naive` alone."""

    source = Source.MEASURED
    card = None

    def __init__(self, limit=10**9, environment=ENVIRONMENT, interrupt_after=None):
        self.limit, self.environment, self.interrupt_after = limit, environment, interrupt_after
        self.ran = []
        self.stopped = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def open(self):
        pass

    def stop(self):
        self.stopped = True

    def matmul_flops_per_second(self, dtype):
        return 1e11

    @property
    def card_name(self):
        return self.environment.gpu

    def measure(self, case, enter=None, settings=None):
        if self.interrupt_after is not None and len(self.ran) >= self.interrupt_after:
            raise KeyboardInterrupt
        self.ran.append(case)
        if case.strategy == "naive" and case.workload.positions >= self.limit:
            return Result(Outcome.OUT_OF_MEMORY, "too much", Measurement())
        return Result(Outcome.COMPLETED, "", measurement())


class ScriptedCard(ScriptedRunner):
    """A scripted runner on an emulated card, which has no rate of matrix products."""

    source = Source.EMULATED

    def __init__(self, card, **options):
        super().__init__(environment=dataclasses.replace(ENVIRONMENT, gpu=card), **options)

    def matmul_flops_per_second(self, dtype):
        raise AssertionError("nothing is computed on an emulated card")


class NotingListener(Listener):
    """Notes what was planned; shows nothing."""

    def planned(self, done, estimates, card):
        self.done, self.estimates = done, estimates


def handing_out(*runners):
    """Return a function that hands these runners to a study, one after the other, in place of real ones."""
    left = list(runners)
    return lambda settings, card, tell: left.pop(0)
