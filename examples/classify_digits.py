"""Trains a digit classifier with the self-attention block, once for each strategy, and compares what they cost.

    python examples/classify_digits.py
    python examples/classify_digits.py --strategy chunked,pooled:2 --size 64 --device cuda --out digits-64

The images are real handwritten digits (scikit-learn ships them). Every strategy starts from the same weights and sees
the same batches. Accuracy, memory and time are printed and saved. It is an error if the losses of an exact strategy
differ from those of `naive` by more than rounding.

Needs scikit-learn and matplotlib, and of attnprof only what `import attnprof` and `attnprof.attention` offer. Exit
codes: 0 done, 1 an exact strategy is off naive, 2 bad input, 130 interrupted (143
terminated).
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from digits.errors import ExampleError, OffNaiveError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from attnprof.attention import StrategyError, parse_strategy

if TYPE_CHECKING:
    from digits.device import Device
    from digits.training import Digits, Run

# Exact strategies, then approximate ones. fp16 works too, but on a CPU it takes longer than all others together.
STRATEGIES = (
    "naive,naive+checkpoint,chunked,online,sdpa,sdpa-pad,sdpa-split,pooled:2,pooled:2+sdpa-pad,sdpa-pad+amp,"
    "sdpa-pad+bf16,criss-cross,axial,linear,global-context"
)


@dataclass(frozen=True)
class Request:
    """The options, as on the command line."""

    strategy: str = STRATEGIES
    epochs: int = 2
    size: int = 32
    batch: int = 32
    device: str = "auto"
    seed: int = 0
    out: str = "results/digits"

    def strategies(self) -> list[str]:
        """Return canonical spellings, `naive` first, because the others are compared with it.

        Raises:
            ExampleError: an unknown strategy.
        """
        try:
            names = [str(parse_strategy(name)) for name in self.strategy.split(",")]
        except StrategyError as error:
            raise ExampleError(str(error)) from None
        return list(dict.fromkeys(["naive", *names]))

    def check(self) -> None:
        """Check the values and what the example needs.

        Raises:
            ExampleError: a value is out of range, a package is missing, or the folder cannot be made.
        """
        for name, least in {"epochs": 1, "size": 8, "batch": 2}.items():
            if getattr(self, name) < least:
                raise ExampleError(f"{name}: {getattr(self, name)} is too small; use {least} or more")
        missing = [package for package in ("sklearn", "matplotlib") if find_spec(package) is None]
        if missing:
            raise ExampleError(f"{' and '.join(missing)} not found: pip install scikit-learn matplotlib")
        try:
            Path(self.out).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ExampleError(f"out: cannot make the folder {self.out}: {error.strerror}") from None

    def title(self) -> str:
        """Return the title of the table and the plot."""
        epochs = "1 epoch" if self.epochs == 1 else f"{self.epochs} epochs"
        return f"Digits of {self.size}x{self.size}, {epochs} in batches of {self.batch}, seed {self.seed}"

    def command(self) -> str:
        """Return the command that gives the same figures again; the folder has no influence on them."""
        given = [
            f"--{field.name} {shlex.quote(str(getattr(self, field.name)))}"
            for field in fields(self)
            if field.name != "out" and getattr(self, field.name) != field.default
        ]
        return " ".join(["python examples/classify_digits.py", *given])


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise ExampleError(message)


def parse(arguments: Sequence[str]) -> Request:
    """Read the command line.

    Raises:
        ExampleError: an unknown option, or a value of the wrong type.
    """
    summary = "Train a digit classifier with the block, once for each strategy; compare accuracy, memory and time."
    parser = _Parser(description=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--strategy", default=Request.strategy, help="strategies; naive is always run, and first")
    parser.add_argument("--epochs", type=int, default=Request.epochs, help="passes over the training images")
    parser.add_argument("--size", type=int, default=Request.size, help="side that the images are enlarged to")
    parser.add_argument("--batch", type=int, default=Request.batch, help="images in a step")
    parser.add_argument("--device", default=Request.device, help="auto, cpu, cuda or cuda:1")
    parser.add_argument("--seed", type=int, default=Request.seed, help="of split, weights and order of batches")
    parser.add_argument("--out", default=Request.out, help="folder of table and plot; older ones are replaced")
    found = parser.parse_args(arguments)
    return Request(found.strategy, found.epochs, found.size, found.batch, found.device, found.seed, found.out)


def main(arguments: Sequence[str]) -> int:
    """Run the example; return its exit code."""
    signal.signal(signal.SIGTERM, _exit)
    try:
        compare(parse(arguments))
    except ExampleError as error:
        _note(f"classify_digits: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def compare(request: Request) -> None:
    """Train with each strategy, save all figures, and print the table.

    Raises:
        ExampleError: a value is out of range, or an exact strategy is off naive.
    """
    strategies = request.strategies()
    request.check()
    # Imported late, because `--help` needs none of it.
    from digits.device import Device
    from digits.training import load, steps_per_epoch

    device = Device(request.device)
    digits = load(request.size, request.seed, device.name)
    per_epoch = steps_per_epoch(digits, request.batch)
    if not per_epoch:
        raise ExampleError(f"batch: {request.batch} is more than the {len(digits.train_labels)} training images")
    facts = device.facts()
    runs: list[Run] = []
    try:
        for run in trained(request, strategies, digits, device, per_epoch):
            runs.append(run)
            save(request, runs, facts)
    except (KeyboardInterrupt, SystemExit):
        show(request, runs, facts)
        _note(f"stopped after {len(runs)} of {len(strategies)} strategies")
        raise
    show(request, runs, facts)
    require_agreement(runs)


def trained(
    request: Request, strategies: Sequence[str], digits: Digits, device: Device, per_epoch: int
) -> Iterator[Run]:
    """Train with each strategy in turn, with progress on stderr: live on a terminal, elsewhere a line for each."""
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
            bar.update(task, completed=steps * place)  # a run that failed took fewer steps
            yield run
            if not err.is_terminal:  # printed when it is saved
                result = run.reason or f"{run.correct}/{run.tested} right"
                err.print(f"[{place}/{len(strategies)}] {strategy}: {result}", markup=False, soft_wrap=True)


def save(request: Request, runs: Sequence[Run], facts: Mapping[str, object]) -> None:
    """Save the figures of all runs so far, so that a later failure loses none of them."""
    from digits.report import save as save_texts
    from digits.report import steps_csv, to_csv, to_markdown

    workload = {"size": request.size, "batch": request.batch, "epochs": request.epochs, "seed": request.seed}
    save_texts(
        Path(request.out),
        {
            "table.csv": to_csv(runs, {**workload, **facts}),
            "steps.csv": steps_csv(runs),
            "table.md": to_markdown(runs, request.title(), request.command(), _place(facts)),
        },
    )


def show(request: Request, runs: Sequence[Run], facts: Mapping[str, object]) -> None:
    """Print the table, and draw and save the plot, if there is anything to show."""
    from digits.plot import draw
    from digits.report import to_table

    if not runs:
        return
    save(request, runs, facts)  # the last save may have been what was interrupted
    Console(highlight=False).print(to_table(runs, request.title()))
    draw(runs, request.title(), _place(facts), Path(request.out) / "plot.png")
    _note(f"saved in {request.out}: table.md, table.csv, steps.csv, plot.png")


def require_agreement(runs: Sequence[Run]) -> None:
    """Check that every exact strategy learns what naive learns.

    Raises:
        OffNaiveError: one does not.
    """
    from digits.training import COMPARED_STEPS, ROUNDING

    off = [
        f"{run.strategy} by {departure:.0e}"
        for run in runs
        if not run.approximation and (departure := run.departure(runs[0])) is not None and departure > ROUNDING
    ]
    if off:
        raise OffNaiveError(
            f"exact, but the loss is off naive's: {', '.join(off)} in the first {COMPARED_STEPS} steps; rounding "
            f"alone makes less than {ROUNDING:.0e}"
        )


def _place(facts: Mapping[str, object]) -> str:
    threads = "1 thread" if facts["threads"] == 1 else f"{facts['threads']} threads"
    versions = f"torch {facts['torch']}, Python {facts['python']}, attnprof {facts['attnprof']}"
    return f"{facts['device_name']}, {threads}, {facts['platform']}, {versions}"


def _exit(number: int, _: object) -> NoReturn:
    """Handle a signal: end as a shell reports it, but show first what is done."""
    sys.exit(128 + number)


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
