"""The device that `--device` names."""

from __future__ import annotations

import os
import re

import torch

from attnprof.emulation.watch.journal import emulated_driver
from attnprof.measure.worker.devices.base import Device, DeviceError
from attnprof.measure.worker.devices.cpu import CpuDevice
from attnprof.measure.worker.devices.cuda import CudaDevice
from attnprof.measure.worker.devices.emulated import EmulatedDevice


def open_device(spelling: str) -> Device:
    """Return the device of `auto`, `cpu`, `cuda` or `cuda:1`.

    Raises:
        DeviceError: there is no such device; the message says what there is.
    """
    if spelling == "cpu" or (spelling == "auto" and not torch.cuda.is_available()):
        return CpuDevice()
    match = re.fullmatch(r"auto|cuda(?::([0-9]+))?", spelling)
    if not match:
        raise DeviceError(f"device {spelling!r} is not known: use auto, cpu, cuda or cuda:0")
    if not torch.cuda.is_available() and "ATTNPROF_GPU" in os.environ:
        raise DeviceError(
            f"torch {torch.__version__} does not find the emulated card {os.environ['ATTNPROF_GPU']}, whose libraries "
            f"are {os.environ.get('LD_PRELOAD', 'not preloaded')}; remove that folder, and they are built again"
        )
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built for the CPU alone"
        raise DeviceError(
            f"device {spelling!r}: torch {torch.__version__} ({built}) finds no CUDA device; use --device cpu"
        )
    index, count = int(match[1] or 0), torch.cuda.device_count()
    if index >= count:
        raise DeviceError(f"device {spelling!r}: there are {count} CUDA devices, the last is cuda:{count - 1}")
    driver = emulated_driver()
    return EmulatedDevice(index, driver) if driver else CudaDevice(index)
