"""Selective scan (Mamba, Gu and Dao, arXiv 2312.00752, section 3.2) in plain tensor operations.

For short sequences, such as the 49 or 196 positions of a map: every exporter and runtime takes it, and no
kernel of its own is needed. Memory grows with length x channels x states.
"""

from __future__ import annotations

import torch
from torch import Tensor


def selective_scan(
    u: Tensor, delta: Tensor, *, a: Tensor, b: Tensor, c: Tensor, d: Tensor, chunk: int
) -> Tensor:
    """`h_t = exp(delta_t a) h_(t-1) + delta_t b_t u_t` from `h_0 = 0`, and `y_t = c_t h_t + d u_t`: G scans
    of equal steps at once, with five axes at most.

    `u` is (B, G, L, D), `delta` (B, 1, L, D), `b` (B, G, L, S) and `c` (B, 1, L, S) with S states, `a` is
    (D, S), `d` (D); gives (B, G, L, D). Inside chunks of `chunk` steps, which must divide L, it goes step by
    step, in all chunks at once; then from chunk to chunk. So each state is touched a few times. A scan of
    doubled reach touches it in every one of log2(L) rounds, which is slower even at 49 steps.
    """
    chunks = u.shape[2] // chunk
    u_by_step, delta, b, c = (_by_step(x, chunks, chunk) for x in (u, delta, b, c))
    step = delta[..., None]  # (B, 1, L, D, 1)
    entering = (delta * u_by_step)[..., None] * b[:, :, :, None]  # (B, G, L, D, S)
    states = _scan((step * a).exp(), entering, chunks)
    y = (states @ c[..., None]).squeeze(4)
    return _by_step(y, chunk, chunks) + d * u


def _by_step(x: Tensor, chunks: int, chunk: int) -> Tensor:
    """The first steps of all chunks, then all second steps, and so on: (B, G, L, C)."""
    b, g, length, c = x.shape
    return x.reshape(b * g, chunks, chunk, c).transpose(1, 2).reshape(b, g, length, c)


def _scan(decay: Tensor, entering: Tensor, chunks: int) -> Tensor:
    """`h_t = decay_t h_(t-1) + entering_t` along dimension 2, which is ordered by step, then chunk."""
    first, *later = range(0, decay.shape[2], chunks)
    # What is left of the chunk's first state after each step, and what came in since.
    steps = [(_part(decay, first, chunks), _part(entering, first, chunks))]
    for place in later:
        left, state = steps[-1]
        fading, arriving = _part(decay, place, chunks), _part(entering, place, chunks)
        steps.append((left * fading, state * fading + arriving))
    start = _starts(*steps[-1])
    return torch.cat([state + left * start for left, state in steps], dim=2)


def _starts(left: Tensor, came_in: Tensor) -> Tensor:
    """The state before each chunk, from what is left of it after the chunk and what came in."""
    state = torch.zeros_like(came_in[:, :, :1])
    starts = [state]
    for place in range(left.shape[2] - 1):
        state = state * _part(left, place, 1) + _part(came_in, place, 1)
        starts.append(state)
    return torch.cat(starts, dim=2)


def _part(x: Tensor, place: int, count: int) -> Tensor:
    """So many positions of dimension 2. `Tensor.chunk` is exported as a sequence, which TensorRT refuses."""
    return x.narrow(2, place, count)
