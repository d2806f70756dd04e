"""Orders in which a square map is scanned without a jump: snakes, which turn at the border."""

from __future__ import annotations

import torch
from torch import Tensor

MOVES = ((0, 0), (0, 1), (0, -1), (-1, 0), (1, 0))  # rows and columns: the start, right, left, up, down


def snakes(side: int) -> Tensor:
    """Four orders of the positions, (4, side**2): by rows and by columns, turning at the border; and back."""
    rows = torch.arange(side**2).reshape(side, side)
    orders = []
    for lines in (rows, rows.T):
        turned = lines.clone()
        turned[1::2] = lines[1::2].flip(1)
        orders += [turned.flatten(), turned.flatten().flip(0)]
    return torch.stack(orders)


def arrivals(orders: Tensor, side: int) -> Tensor:
    """By which of MOVES a scan came to each position of its order: (4, side**2), as `orders`."""
    moved = torch.stack((orders // side, orders % side), dim=2).diff(dim=1)  # (4, N-1, 2)
    start = torch.zeros_like(moved[:, :1])
    ways = torch.cat((start, moved), dim=1)[:, :, None] == torch.tensor(MOVES, device=orders.device)
    return ways.all(dim=3).int().argmax(dim=2)
