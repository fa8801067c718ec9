"""What the self-attention block costs in a classifier, with each strategy, and whether it changes what is learnt.

    python examples/classify_digits.py
    python examples/classify_digits.py --strategy chunked,pooled:2 --size 64 --device cuda --out digits-64

Trains a small convolutional classifier with the block on real handwritten digits (scikit-learn ships them), once per
strategy, from the same weights and with the same batches. Prints and saves accuracy, memory and time. An
exact strategy whose losses are not those of `naive` to rounding is an error.

Needs scikit-learn and matplotlib. Exit codes: 0 done, 1 an exact strategy is off naive, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from attnprof.attention import StrategyError, parse_strategy
from attnprof.cases.parsing import parse_names
from attnprof.cases.plan import DEFAULT_STRATEGIES
from attnprof.cli.terminal import Interrupted, note, run_app
from attnprof.errors import AttnprofError

if TYPE_CHECKING:
    from digits.training import Digits, Run

    from attnprof.measure.worker.devices.base import Device

# Whatever a sweep compares, and what is approximate. fp16 works too; on a CPU it takes longer than all others together.
STRATEGIES = (
    *DEFAULT_STRATEGIES, "pooled:2+sdpa-pad", "sdpa-pad+amp", "sdpa-pad+bf16",
    "criss-cross", "axial", "linear", "global-context",
)  # fmt: skip
# Of the environment, what goes with every figure.
_SHOWN = ("device", "device_name", "torch", "threads", "platform", "python", "attnprof")

app = typer.Typer(
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class OffNaiveError(AttnprofError):
    """An exact strategy that does not learn what the plain block learns."""

    exit_code = 1


@dataclass(frozen=True)
class Request:
    """What was asked for, as on the command line."""

    strategy: str = ",".join(STRATEGIES)
    epochs: int = 2
    size: int = 32
    batch: int = 32
    device: str = "auto"
    seed: int = 0
    out: str = "results/digits"

    def strategies(self) -> list[str]:
        """Canonical spellings, `naive` first: the others are held against it.

        Raises:
            AttnprofError: an unknown strategy.
        """
        try:
            names = [str(parse_strategy(name)) for name in parse_names(self.strategy, "strategy")]
        except StrategyError as error:
            raise AttnprofError(str(error)) from None
        return list(dict.fromkeys(["naive", *names]))

    def check(self) -> None:
        """Raises AttnprofError on a value that means nothing, or without what the example needs."""
        for name, least in {"epochs": 1, "size": 8, "batch": 2}.items():
            if getattr(self, name) < least:
                raise AttnprofError(f"{name}: {getattr(self, name)} is too small: use {least} or more")
        missing = [package for package in ("sklearn", "matplotlib") if find_spec(package) is None]
        if missing:
            raise AttnprofError(f"{' and '.join(missing)} not found: pip install scikit-learn matplotlib")
        try:
            Path(self.out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AttnprofError(f"out: cannot make the folder {self.out}: {error.strerror}") from None

    def title(self) -> str:
        """Of the table and the plot."""
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        return f"Digits of {self.size}x{self.size}, {epochs} in batches of {self.batch}, seed {self.seed}"

    def command(self) -> str:
        """That gives the same again; where it saves is left out, being of no account to the figures."""
        given = [
            f"--{field.name} {shlex.quote(str(getattr(self, field.name)))}"
            for field in fields(self)
            if field.name != "out" and getattr(self, field.name) != field.default
        ]
        return " ".join(["python examples/classify_digits.py", *given])


@app.command()
def main(
    strategy: Annotated[
        str, typer.Option(help="Strategies, as attnprof takes them; naive is run first in any case.")
    ] = Request.strategy,
    epochs: Annotated[int, typer.Option(help="Times over the training images.")] = Request.epochs,
    size: Annotated[int, typer.Option(help="Side to which the images are enlarged: N is its square.")] = Request.size,
    batch: Annotated[int, typer.Option(help="Images in a step.")] = Request.batch,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1.")] = Request.device,
    seed: Annotated[int, typer.Option(help="Of split, weights and order of batches.")] = Request.seed,
    out: Annotated[
        str, typer.Option(help="Folder of the table and the plot; what is there is replaced.")
    ] = Request.out,
) -> None:
    """Train a digit classifier with the block, once per strategy, and compare accuracy, memory and time."""
    request = Request(**locals())
    strategies = request.strategies()
    request.check()
    _compare(request, strategies)


def _compare(request: Request, strategies: Sequence[str]) -> None:
    # Late: `--help` needs none of it.
    from digits.plot import draw
    from digits.report import to_table
    from digits.training import load, steps_per_epoch

    device = _open(request.device)
    digits = load(request.size, request.seed, device.name)
    per_epoch = steps_per_epoch(digits, request.batch)
    if not per_epoch:
        raise AttnprofError(f"batch: {request.batch} is more than the {len(digits.train_labels)} training images")
    found = device.environment().to_json()
    environment = {name: found[name] for name in _SHOWN}
    runs: list[Run] = []
    ending: BaseException | None = None
    try:
        for run in _trained(request, strategies, digits, device, per_epoch):
            runs.append(run)
            _save(request, runs, environment)
    except (AttnprofError, KeyboardInterrupt, Interrupted) as error:
        ending = error  # raised when what is done has been shown
    if runs:
        if ending:
            _save(request, runs, environment)  # the last one's may have been what was interrupted
        Console(highlight=False).print(to_table(runs, request.title()))
        draw(runs, request.title(), _place(environment), Path(request.out) / "plot.png")
        note(f"saved in {request.out}: table.md, table.csv, steps.csv, plot.png")
    if ending is not None:
        note(f"stopped after {len(runs)} of {len(strategies)} strategies")
        raise ending
    _require_agreement(runs)


def _open(spelling: str) -> Device:
    """Raises AttnprofError: no such device, or one that computes nothing."""
    import torch
    from digits.quiet import quiet_stderr

    from attnprof.cases.measurement import Source
    from attnprof.measure.worker.devices.base import DeviceError
    from attnprof.measure.worker.devices.select import open_device

    try:
        with quiet_stderr():
            device = open_device(spelling)
    except DeviceError as error:
        raise AttnprofError(str(error)) from None
    if device.source is Source.EMULATED:
        raise AttnprofError("an emulated card computes nothing, so nothing is learnt on it: use --device cpu")
    # Else a convolution differs from run to run, or by TF32's rounding of 5e-4, and not the strategies.
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    device.enforce_budget(None)
    return device


def _trained(
    request: Request, strategies: Sequence[str], digits: Digits, device: Device, per_epoch: int
) -> Iterator[Run]:
    """Train with each strategy in turn, with progress on stderr: live on a terminal, a line a strategy elsewhere."""
    from digits.training import Step, train

    err = Console(stderr=True, highlight=False)
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.completed}/{task.total} steps"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
    steps = request.epochs * per_epoch
    with bar:
        task = bar.add_task("", total=steps * len(strategies))
        for place, strategy in enumerate(strategies, 1):

            def tell(step: Step, strategy: str = strategy) -> None:
                bar.update(task, advance=1, description=f"{strategy}: loss {step.loss:.3f}")

            run = train(
                strategy, digits, device, epochs=request.epochs, batch=request.batch, seed=request.seed, tell=tell
            )
            bar.update(task, completed=steps * place)  # one that failed took fewer
            yield run
            if not err.is_terminal:  # told when it is saved
                came_of_it = run.reason or f"{run.correct}/{run.tested} right"
                err.print(f"[{place}/{len(strategies)}] {strategy}: {came_of_it}", markup=False, soft_wrap=True)


def _place(environment: Mapping[str, object]) -> str:
    e = environment
    threads = "1 thread" if e["threads"] == 1 else f"{e['threads']} threads"
    versions = f"torch {e['torch']}, Python {e['python']}, attnprof {e['attnprof']}"
    return f"{e['device_name']}, {threads}, {e['platform']}, {versions}"


def _save(request: Request, runs: Sequence[Run], environment: Mapping[str, object]) -> None:
    """All that is done so far, so that a later failure loses nothing of it."""
    from digits.report import save, steps_csv, to_csv, to_markdown

    workload = {"size": request.size, "batch": request.batch, "epochs": request.epochs, "seed": request.seed}
    save(
        Path(request.out),
        {
            "table.csv": to_csv(runs, {**workload, **environment}),
            "steps.csv": steps_csv(runs),
            "table.md": to_markdown(runs, request.title(), request.command(), _place(environment)),
        },
    )


def _require_agreement(runs: Sequence[Run]) -> None:
    """Raises OffNaiveError."""
    from digits.training import COMPARED_STEPS, ROUNDING

    off = [
        f"{run.strategy} by {departure:.0e}"
        for run in runs
        if not run.approximation and (departure := run.departure(runs[0])) is not None and departure > ROUNDING
    ]
    if off:
        raise OffNaiveError(
            f"exact, but the loss is off naive's: {', '.join(off)} in the first {COMPARED_STEPS} steps, where rounding "
            f"makes less than {ROUNDING:.0e}"
        )


if __name__ == "__main__":
    sys.exit(run_app(app))
