"""A runner that answers from a script, and a listener that notes what is planned."""

import dataclasses

from attnprof.cases.cards import parse_cards
from attnprof.cases.measurement import Measurement, Memory, Outcome, Result, Source
from attnprof.cases.workload import ModelWorkload
from attnprof.studies.listener import Listener
from support.samples import ENVIRONMENT, MIB, measurement


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
        return self.result(case)

    def result(self, case):
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


class SizedCard(ScriptedCard):
    """A card on which each case takes a known memory: B N^2 / 1024 MiB for `naive` and `as-is`, B N for the others.

    For a model, N is 64.
    """

    def __init__(self, spelling, total_mib=1000, **options):
        super().__init__(spelling, **options)
        [self.card] = parse_cards(spelling)
        self.total_mib = total_mib
        self.environment = dataclasses.replace(
            self.environment, total_memory_bytes=total_mib * MIB, context_bytes=0, device_name="Card"
        )

    def result(self, case):
        positions = 64 if isinstance(case.workload, ModelWorkload) else case.workload.positions
        mib = case.workload.batch * (positions**2 // 1024 if case.strategy in ("naive", "as-is") else positions)
        if mib > self.total_mib:
            return Result(Outcome.OUT_OF_MEMORY, "CUDA out of memory", Measurement())
        peak = mib * MIB
        return Result(Outcome.COMPLETED, "", Measurement(memory=Memory(0, peak, 0, peak, peak, peak, peak, 0)))


class NotingListener(Listener):
    """Notes what was planned and told; shows nothing."""

    def __init__(self):
        self.told = []

    def tell(self, text):
        self.told.append(text)

    def planned(self, done, estimates, card):
        self.done, self.estimates = done, estimates


def handing_out(*runners):
    """Return a function that hands these runners to a study, one after the other, in place of real ones."""
    left = list(runners)
    return lambda settings, card, tell: left.pop(0)
