"""Selective scan (Mamba, Gu and Dao, arXiv 2312.00752, section 3.2) in plain tensor operations.

For short sequences, such as the 49 or 196 positions of a map: every exporter and runtime takes it, and no
kernel of its own is needed. Memory grows with length x channels x states.
"""

from __future__ import annotations

import torch
from torch import Tensor


def selective_scan(u: Tensor, delta: Tensor, *, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """`h_t = exp(delta_t a) h_(t-1) + delta_t b_t u_t` from `h_0 = 0`, and `y_t = c_t h_t + d u_t`.

    `u` and `delta` are (B, L, D), `a` is (D, S) with S states, `b` and `c` are (B, L, S), `d` is (D). Gives
    (B, L, D).
    """
    step = delta[..., None]  # (B, L, D, 1)
    decay = (step * a).exp()  # (B, L, D, S)
    states = _scan(decay, step * u[..., None] * b[:, :, None])
    return (states @ c[..., None]).squeeze(3) + d * u


def _scan(decay: Tensor, entering: Tensor) -> Tensor:
    """`h_t = decay_t h_(t-1) + entering_t` along dimension 1, in log2(L) rounds of doubled reach.

    After a round of reach r, `entering_t` sums what came in over the last 2r steps and `decay_t` is their
    product. Nothing is divided, so a decay of nearly 0 does no harm.
    """
    length, reach = entering.shape[1], 1
    while reach < length:
        carried = decay[:, reach:] * entering[:, :-reach]
        entering = torch.cat((entering[:, :reach], entering[:, reach:] + carried), dim=1)
        decay = torch.cat((decay[:, :reach], decay[:, reach:] * decay[:, :-reach]), dim=1)
        reach *= 2
    return entering
