"""The environment of a measurement: the device and the software that determine its numbers. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from attnprof.cases.decoding import Bytes, Size, convert


@dataclass(frozen=True)
class Environment:
    """The facts that must agree for two records to be compared.

    A fact that a device does not have is None, and is left out of the JSON form.

    Attributes:
        attnprof, torch, python: versions.
        platform: operating system and processor architecture, as `Linux x86_64`.
        threads: the number of threads that torch computes with on the CPU.
        matmul_precision: torch's setting for float32 matrix products.
        device: `cpu` or `cuda:0`.
        device_name: the processor's or the card's name.
        compute_capability: of a CUDA card, as `7.5`.
        total_memory_bytes: the memory of a CUDA card. A CPU has none of its own.
        driver: version of the NVIDIA driver, or `emulated`.
        cuda, cudnn: versions that torch uses.
        tf32: whether TensorFloat-32 is allowed, by library.
        cpu_capability: the instruction set that torch uses on the CPU.
        allocator: environment variables that change how memory is allocated.
        gpu: the emulated card, as `--gpu` spells it.
        context_bytes: memory that the CUDA context of an emulated card takes.
        cudnn_plans: whether cuDNN itself chooses kernels and workspaces for the emulated card.
        extras: facts recorded by other versions of attnprof; they are compared like the rest.
    """

    attnprof: str
    torch: str
    python: str
    platform: str
    threads: Size
    matmul_precision: str
    device: str
    device_name: str
    compute_capability: str | None = None
    total_memory_bytes: Bytes | None = None
    driver: str | None = None
    cuda: str | None = None
    cudnn: int | None = None
    tf32: Mapping[str, bool] | None = None
    cpu_capability: str | None = None
    allocator: Mapping[str, str] | None = None
    gpu: str | None = None
    context_bytes: Bytes | None = None
    cudnn_plans: bool | None = None
    extras: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the facts that the device has, by name."""
        facts = {name: getattr(self, name) for name in FACTS}
        return {**{name: value for name, value in facts.items() if value is not None}, **self.extras}

    @classmethod
    def from_json(cls, found: Mapping[str, Any], place: str = "$") -> Environment:
        """Return the environment with these facts; facts of unknown names become `extras`.

        Args:
            found: the facts by name.
            place: where they stand in the document, for the message.

        Raises:
            ValueError: a fact that every device has is missing, or one is of a wrong type.
        """
        known = {name: value for name, value in found.items() if name in FACTS}
        extras = {name: value for name, value in found.items() if name not in FACTS}
        return convert({**known, "extras": extras}, cls, place)


FACTS = tuple(one.name for one in fields(Environment) if one.name != "extras")
