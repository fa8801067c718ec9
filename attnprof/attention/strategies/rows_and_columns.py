"""Attention along rows and columns of the map, in memory of N * (H + W). Not the plain block's function.

Both strategies apply the block twice with the same weights; after that, every position depends on every other. A
position has scores only for its own row and column, and nothing of size N x N exists.

Everything is laid out as a grid, (H, B, W, channels). It is the one order in which both the columns (a batch of B * W
matrices) and the rows (a batch of H * B) are views, so that neither autograd nor a product copies the weights.
"""

# Registered in strategy.COMPONENTS as "rows_and_columns:criss_cross" and "rows_and_columns:axial".

from __future__ import annotations

import torch
from torch import Tensor

from attnprof.attention.projections import Projections


def criss_cross(p: Projections) -> tuple[Tensor, None]:
    """Let each position attend to its column and its row, counting itself once; recurrence 2.

    As in CCNet (Huang et al. 2018, arXiv:1811.11721, section 3.2 and 3.3), there is one softmax over the H + W - 1
    positions, and the block runs a second time on its own output.

    Args:
        p: the block's projections of its input.

    Returns:
        The block's output (B, C, H, W), and None: there is no attention map.

    Raises:
        ValueError: the block pools its keys.
    """
    return _criss_cross_once(p.at(_criss_cross_once(p))), None


def axial(p: Projections) -> tuple[Tensor, None]:
    """Attend within each column, then within each row of the result.

    As in Ho et al. 2019, arXiv:1912.12180, and Wang et al. 2020, arXiv:2003.07853, but without position encodings and
    with one set of weights, since the plain block has no more.

    Args:
        p: the block's projections of its input.

    Returns:
        The block's output (B, C, H, W), and None: there is no attention map.

    Raises:
        ValueError: the block pools its keys.
    """
    return _within_rows(p.at(_within_columns(p))), None


def _criss_cross_once(p: Projections) -> Tensor:
    height, width = p.x.shape[2:]
    query, key = _grid(p, p.query()), _grid(p, _own_key(p, "criss-cross"))
    # A position is in its row and in its column: the column leaves it out, so that it counts once.
    itself = torch.full((height,), -torch.inf, device=query.device, dtype=query.dtype).diag()
    attention = torch.softmax(
        torch.cat(
            (
                _grid_of_columns(p, torch.baddbmm(itself, _columns(query), _columns(key).mT)),
                _grid_of_rows(p, torch.bmm(_rows(query), _rows(key).mT)),
            ),
            dim=-1,
        ),
        dim=-1,
    )  # (H, B, W, H + W)
    del query, key
    value = _grid(p, p.value())
    over_column, over_row = attention.split_with_sizes((height, width), dim=-1)
    from_columns = torch.bmm(_columns(over_column), _columns(value))  # (B * W, H, D)
    from_rows = torch.bmm(_rows(over_row), _rows(value))  # (H * B, W, D)
    del value, attention, over_column, over_row
    return p.residual(_map(_grid_of_rows(p, from_rows) + _grid_of_columns(p, from_columns)))


def _within_columns(p: Projections) -> Tensor:
    weights = _weights(_columns(_grid(p, p.query())), _columns(_grid(p, _own_key(p, "axial"))))  # (B * W, H, H)
    return p.residual(_map(_grid_of_columns(p, torch.bmm(weights, _columns(_grid(p, p.value()))))))


def _within_rows(p: Projections) -> Tensor:
    weights = _weights(_rows(_grid(p, p.query())), _rows(_grid(p, _own_key(p, "axial"))))  # (H * B, W, W)
    return p.residual(_map(_grid_of_rows(p, torch.bmm(weights, _rows(_grid(p, p.value()))))))


def _weights(query: Tensor, key: Tensor) -> Tensor:
    return torch.softmax(torch.bmm(query, key.mT), dim=-1)


def _own_key(p: Projections, name: str) -> Tensor:
    """Return the key, or raise ValueError if it is not one for each position."""
    key = p.key()
    if key.shape[2] != p.x.shape[2] * p.x.shape[3]:
        raise ValueError(
            f"{name} attends along rows and columns: this block pools its keys; use 'linear', 'global-context' or an "
            "exact strategy"
        )
    return key


def _grid(p: Projections, positions: Tensor) -> Tensor:
    """Copy positions into a grid, (B, C', N) -> (H, B, W, C')."""
    return positions.view(*positions.shape[:2], *p.x.shape[2:]).permute(2, 0, 3, 1).contiguous()


def _map(grid: Tensor) -> Tensor:
    """View a grid as a map, (H, B, W, C') -> (B, C', H, W)."""
    return grid.permute(1, 3, 0, 2)


def _columns(grid: Tensor) -> Tensor:
    """View the columns of a grid as a batch, (H, B, W, C') -> (B * W, H, C')."""
    return grid.flatten(1, 2).transpose(0, 1)


def _rows(grid: Tensor) -> Tensor:
    """View the rows of a grid as a batch, (H, B, W, C') -> (H * B, W, C')."""
    return grid.flatten(0, 1)


def _grid_of_columns(p: Projections, columns: Tensor) -> Tensor:
    """View a batch of columns as a grid, (B * W, H, C') -> (H, B, W, C')."""
    return columns.transpose(0, 1).view(p.x.shape[2], p.x.shape[0], p.x.shape[3], -1)


def _grid_of_rows(p: Projections, rows: Tensor) -> Tensor:
    """View a batch of rows as a grid, (H * B, W, C') -> (H, B, W, C')."""
    return rows.view(p.x.shape[2], p.x.shape[0], p.x.shape[3], -1)
