"""A small convolutional classifier with the self-attention block in it, and its training on handwritten digits.

Everything but the block's strategy is the same from run to run: images, split, initial weights, order of batches.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from attnprof import SelfAttention2d
from attnprof.attention import parse_strategy
from digits.device import Device, is_out_of_memory

# Over the first steps two exact strategies differ by rounding alone; later training amplifies whatever differs.
COMPARED_STEPS = 20
# fp32's unit roundoff is 6e-8, and exact strategies were seen below 1e-6 in these steps (maps of 12 x 12 to
# 32 x 32, seeds 0 to 2 up to 16 x 16); pooled keys, bf16 and fp16 at 4e-5 and above. That is of this network:
# one with kinks (ReLU) and batch norm amplifies the same rounding to 2e-5.
ROUNDING = 1e-5

_CHANNELS = 32
_LEARNING_RATE = 0.1


class Classifier(nn.Module):
    """A classifier of digits (B, 1, size, size) to logits (B, 10), with the block on a map of 32 x size x size.

    It uses GELU instead of ReLU: at ReLU's kink the rounding of a strategy would decide on which side a value falls,
    for all of an image's even background at once.
    """

    def __init__(self, strategy: str) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, _CHANNELS, 5, padding=2), nn.GELU())
        self.attention = SelfAttention2d(_CHANNELS, strategy)
        self.head = nn.Sequential(
            nn.Conv2d(_CHANNELS, 64, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.GELU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(64 * 4 * 4, 10),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 10) for images (B, 1, size, size)."""
        return self.head(self.attention(self.stem(x)))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Digits:
    """Images (count, 1, size, size), standardised, and their labels (count,)."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


def load(size: int, seed: int, device: str) -> Digits:
    """Load the 1797 digits of 8 x 8 that scikit-learn ships, enlarged bilinearly; a fifth is for the test.

    They are the test part of the UCI data set of handwritten digits (Alpaydin and Kaynak 1998).
    """
    found = load_digits()
    small = torch.tensor(found.images, dtype=torch.float32).unsqueeze(1)
    images = F.interpolate(small, size=(size, size), mode="bilinear", align_corners=False)
    places = list(range(len(images)))
    train, test = train_test_split(places, test_size=0.2, stratify=found.target, random_state=seed)
    images = ((images - images[train].mean()) / images[train].std()).to(device)
    labels = torch.tensor(found.target).to(device)
    return Digits(images[train], labels[train], images[test], labels[test])


@dataclass(frozen=True)
class Step:
    """A step of training: its loss, gamma after it, and its time."""

    loss: float
    gamma: float
    seconds: float


@dataclass(frozen=True)
class Run:
    """The training with one strategy.

    Attributes:
        strategy: its canonical spelling.
        reason: why it ended early; "" if it did not.
        correct, tested: numbers of test images.
        step_bytes: the peak of a step of training above what is allocated before it.
    """

    strategy: str
    steps: tuple[Step, ...]
    reason: str = ""
    correct: int | None = None
    tested: int | None = None
    step_bytes: int | None = None

    @property
    def approximation(self) -> str:
        """The property that is given up against the plain block; "" if the strategy is exact."""
        return parse_strategy(self.strategy).approximation

    @property
    def gamma(self) -> float | None:
        """The last value of gamma, which shows how much the block is used at all."""
        return self.steps[-1].gamma if self.steps else None

    @property
    def total_seconds(self) -> float:
        """The time of all steps of training."""
        return sum(step.seconds for step in self.steps)

    def step_quartiles_seconds(self) -> tuple[float, float, float] | None:
        """Return the quartiles of a step's time, without the first step, which also sets things up."""
        samples = [step.seconds for step in self.steps[1:]]
        if len(samples) < 2:
            return None
        lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
        return lower, median, upper

    def departures(self, reference: Run) -> list[float]:
        """Return for each step how far the loss is off the reference's, relative to it."""
        pairs = [(own.loss, other.loss) for own, other in zip(self.steps, reference.steps, strict=False)]
        # The loss is 0 if the network is sure of the whole batch.
        return [abs(own - other) / other if other else (math.inf if own else 0.0) for own, other in pairs]

    def departure(self, reference: Run) -> float | None:
        """Return the largest departure in the first steps; None if there are none."""
        first = self.departures(reference)[:COMPARED_STEPS]
        if not first:
            return None
        # max() alone would lose a NaN.
        return max(first) if all(map(math.isfinite, first)) else math.inf


class Training:
    """One strategy's network and optimizer on the device."""

    def __init__(self, strategy: str, weights: Mapping[str, Tensor], device: Device) -> None:
        self._device = device
        self._model = Classifier(strategy)
        self._model.load_state_dict(weights)
        self._model.to(device.name)
        # SGD instead of Adam, which divides by second moments too small for fp16.
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=_LEARNING_RATE, momentum=0.9, nesterov=True)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """Run forward, backward and update; return the loss, ()."""
        loss = F.cross_entropy(self._model(images), labels)
        loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def timed(self, images: Tensor, labels: Tensor) -> Step:
        """Run a step and time it."""
        start = time.perf_counter()
        loss = self.step(images, labels).item()  # the device is done when it has the value
        seconds = time.perf_counter() - start
        return Step(loss, self._model.attention.gamma.item(), seconds)

    def correct(self, images: Tensor, labels: Tensor, batch: int) -> int:
        """Return how many images are classified correctly."""
        self._model.eval()
        with torch.no_grad():
            right = [
                (self._model(some).argmax(1) == true).sum().item()
                for some, true in zip(images.split(batch), labels.split(batch), strict=True)
            ]
        self._model.train()
        return int(sum(right))

    def step_bytes(self, images: Tensor, labels: Tensor) -> int:
        """Run one more step; return its peak above what is allocated before it."""
        return self._device.peak_bytes(lambda: self.step(images, labels))


def initial_weights(seed: int) -> dict[str, Tensor]:
    """Return weights for every strategy: the block has the same parameters in all of them."""
    torch.manual_seed(seed)
    return Classifier("naive").state_dict()


def steps_per_epoch(digits: Digits, batch: int) -> int:
    """Return the number of whole batches, so that every step is as large as the others."""
    return len(digits.train_labels) // batch


def train(
    strategy: str, digits: Digits, device: Device, *, epochs: int, batch: int, seed: int, tell: Callable[[Step], object]
) -> Run:
    """Train with one strategy; what this device refuses is in the run's `reason`.

    Args:
        strategy: its spelling.
        digits: images and labels, on the device.
        device: where to train.
        epochs: passes over the training images.
        batch: images in a step.
        seed: of weights and order of batches.
        tell: called with every step.
    """
    steps: list[Step] = []
    generator = torch.Generator().manual_seed(seed)
    correct: int | None = None
    step_bytes: int | None = None
    reason = ""
    try:
        training = Training(strategy, initial_weights(seed), device)
        for _ in range(epochs):
            order = torch.randperm(len(digits.train_labels), generator=generator).to(digits.train_labels.device)
            for places in order.split(batch)[: steps_per_epoch(digits, batch)]:
                steps.append(training.timed(digits.train_images[places], digits.train_labels[places]))
                tell(steps[-1])
        correct = training.correct(digits.test_images, digits.test_labels, batch)
        step_bytes = training.step_bytes(digits.train_images[:batch], digits.train_labels[:batch])
    except (RuntimeError, MemoryError) as error:  # the errors that torch refuses with
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        reason = "out of memory" if is_out_of_memory(error) else f"unsupported: {words}"
    device.clean()
    return Run(strategy, tuple(steps), reason, correct, len(digits.test_labels), step_bytes)
