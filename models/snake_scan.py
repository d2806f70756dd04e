"""Four selective scans along the snakes of a square map, as PlainMamba (arXiv 2403.17695) and VCMamba have.

Only the features are put in the order of a snake: steps, B and C stay in raster order, as published. The
published code of both adds the bias of the steps twice; here it is added once, so published weights need it
doubled.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.selective_scan import selective_scan
from models.snakes import MOVES, arrivals, snakes

STATES = 16
STEPS = (1e-3, 0.1)  # the range of the scans' steps at first (Mamba, arXiv 2312.00752, section 3.6)


class SnakeScan(nn.Module):
    """The sum of four selective scans of one step, B and C; B is moved by a learned offset for the way by
    which a scan came to each position ("Direction-Aware Updating"). `side`: of the map."""

    order: Tensor
    place: Tensor
    arrival: Tensor

    def __init__(self, channels: int, *, side: int, rank: int) -> None:
        super().__init__()
        self.side, self.rank = side, rank
        self.parameters_of_x = nn.Linear(channels, rank + 2 * STATES, bias=False)
        self.step = nn.Linear(rank, channels)
        self.decay_log = nn.Parameter(torch.arange(1, STATES + 1.0).log().repeat(channels, 1))
        self.skip = nn.Parameter(torch.ones(channels))
        self.direction = nn.Parameter(torch.zeros(len(MOVES), STATES))
        order = snakes(side)
        self.register_buffer("order", order.flatten(), persistent=False)
        self.register_buffer("place", order.argsort(dim=1), persistent=False)
        self.register_buffer("arrival", arrivals(order, side), persistent=False)
        self._spread_steps()

    def _spread_steps(self) -> None:
        least, most = (math.log(step) for step in STEPS)
        with torch.no_grad():
            steps = self.step.bias.uniform_(least, most).exp()
            self.step.bias.copy_(steps + (-(-steps).expm1()).log())  # softplus gives `steps` again

    def forward(self, x: Tensor) -> Tensor:  # (B, N, C)
        b, n, c = x.shape
        step, enters, leaves = self.parameters_of_x(x).split((self.rank, STATES, STATES), dim=2)
        y = selective_scan(
            x[:, self.order].reshape(b, 4, n, c),
            nn.functional.softplus(self.step(step))[:, None],
            a=-self.decay_log.exp(),
            b=enters[:, None] + self.direction[self.arrival],
            c=leaves[:, None],
            d=self.skip,
            chunk=self.side,
        )  # (B, 4, N, C)
        first, second, third, fourth = (y[:, index, self.place[index]] for index in range(4))
        return first + second + third + fourth
