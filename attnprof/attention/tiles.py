"""The size of a tile of the N x M score matrix on this device, and slices that divide larger tensors into pieces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

_MIN_ROWS = 64  # below this a matrix product no longer fills a core's vector units or a GPU's tiles
_MIN_ROWS_CUDA = 16  # a tensor core's tile: on the largest maps saving memory matters more than speed
_DEFAULT_CACHE_BYTES = 32 * 2**20
_CUDA_TILE_BYTES = 32 * 2**20  # 512 output tiles of 128 x 128 floats: several for each SM of any card
_CUDA_FREE_SHARE = 16  # a tile takes at most one part in this many of the free memory


@dataclass(frozen=True)
class Tile:
    """The part of a (B, N, M) score matrix that exists at one time.

    Attributes:
        images: at most B.
        queries: at most N.
        keys: at most M.
    """

    images: int
    queries: int
    keys: int


def row_tile(query: Tensor, key: Tensor, rows: int | None) -> Tile:
    """Choose a tile of whole rows of scores: some queries times all keys.

    Args:
        query: (B, E, N).
        key: (B, E, M).
        rows: the number of queries; None chooses it from the cache (CPU) or the free memory (CUDA).

    Returns:
        The tile, no larger than the score matrix.
    """
    batch, _, queries = query.shape
    keys = key.shape[2]
    budget = _tile_elements(query)
    if rows is None:
        rows = _round_rows(budget // max(1, keys), _MIN_ROWS_CUDA if query.is_cuda else _MIN_ROWS)
    rows = min(rows, queries)
    return Tile(_images(budget, rows * keys, batch), rows, keys)


def tall_tile(query: Tensor, key: Tensor, sizes: tuple[int, int] | None) -> Tile:
    """Choose a tile of some queries times some keys.

    If not given, it is twice as tall as wide: products with few query channels write tall tiles faster than wide ones.

    Args:
        query: (B, E, N).
        key: (B, E, M).
        sizes: the numbers of queries and keys; None chooses them from the cache (CPU) or the free memory (CUDA).

    Returns:
        The tile, no larger than the score matrix.
    """
    batch = query.shape[0]
    budget = _tile_elements(query)
    side = _round_rows(int((budget / 2) ** 0.5), _MIN_ROWS)
    rows, columns = sizes or (2 * side, side)
    rows, columns = min(rows, query.shape[2]), min(columns, key.shape[2])
    return Tile(_images(budget, rows * columns, batch), rows, columns)


def pieces(matrix: Tensor) -> Iterator[slice]:
    """Yield slices of the columns of a (C, M) matrix; each selects as many elements as a tile has."""
    return chunks(matrix.shape[1], max(1, _piece_elements(matrix.device) // matrix.shape[0]))


def exact_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which sums over tiles of a dtype are kept: float32 at least."""
    return torch.promote_types(dtype, torch.float32)


def chunks(length: int, step: int) -> Iterator[slice]:
    """Yield slices of at most `step` elements that together cover `length`."""
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


def _piece_elements(device: torch.device) -> int:
    return (_CUDA_TILE_BYTES if device.type == "cuda" else _cpu_tile_bytes()) // 4


def _round_rows(rows: int, least: int) -> int:
    """Round down to a multiple of `_MIN_ROWS` if there are that many rows, else of `least`; at least `least`."""
    whole = _MIN_ROWS if rows >= _MIN_ROWS else least
    return max(least, rows // whole * whole)


def _images(budget: int, per_image: int, batch: int) -> int:
    return max(1, min(batch, budget // max(1, per_image)))


def _tile_elements(like: Tensor) -> int:
    # Scores are held in float32 for half-precision inputs.
    return _tile_bytes(like.device, like.numel() * like.element_size()) // max(4, like.element_size())


def _tile_bytes(device: torch.device, query_bytes: int) -> int:
    if device.type != "cuda":
        return _cpu_tile_bytes()
    free, _ = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    # At least twice the size of the query, a quarter of a map: then the number of launches grows with N and not with
    # N^2.
    wanted = max(_CUDA_TILE_BYTES, 2 * query_bytes)
    return min(wanted, max(2**20, (free + cached) // _CUDA_FREE_SHARE))


def _cpu_tile_bytes() -> int:
    """Return the size of a tile that stays in the last-level cache.

    A tile is written and read back several times, and shares the cache with value columns, with a second tile in
    training, and with what other cores work on.
    """
    return min(max(_last_level_cache_bytes() // 16, 2**20), 16 * 2**20)


@lru_cache(maxsize=1)
def _last_level_cache_bytes() -> int:
    """Return the size of the largest cache as Linux's sysfs gives it; an assumed size on other systems.

    Source: Documentation/ABI/testing/sysfs-devices-system-cpu in the kernel's sources.
    """
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip() if os.access(path, os.R_OK) else ""
        if text[:-1].isdigit() and text[-1] in "KM":
            sizes.append(int(text[:-1]) * {"K": 2**10, "M": 2**20}[text[-1]])
    return max(sizes, default=_DEFAULT_CACHE_BYTES)
