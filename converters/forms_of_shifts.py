"""MobileViG's shifted differences (`models.mobilevig`) with one subtraction, on slices of one larger map."""

from __future__ import annotations

from torch import Tensor, cat, minimum, nn

from models.mobilevig import MaxRelative, shifts


def sliced_shifts(_: MaxRelative) -> nn.Module:
    """`SlicedShifts` has no weights to take over."""
    return SlicedShifts()


class SlicedShifts(nn.Module):
    """`x` minus the least of its shifts is the largest difference to them, to the last bit, since rounding
    keeps order. A shift round the border is a slice of the map repeated once.
    """

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        least = x
        for dim in (2, 3):
            side = x.shape[dim]
            twice = cat((x, x), dim=dim)
            for shift in shifts(side):
                least = minimum(least, twice.narrow(dim, side - shift, side))
        return x - least
