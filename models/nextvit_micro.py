"""Next-ViT's blocks in a network for small images: what the trainer learns scikit-learn's digits with.

The parts, the order of blocks and the head are those of Next-ViT (arXiv 2207.05501); it is no variant of the
paper. The stem halves the image once instead of twice, and three stages follow: a 32x32 image ends at 4x4.
"""

from __future__ import annotations

from models.nextvit import NextViT, Stage

STAGES = (
    Stage(ncb=1, ntb=0, repeats=1, ncb_channels=32, ntb_channels=32, reduction=4),
    Stage(ncb=1, ntb=1, repeats=1, ncb_channels=64, ntb_channels=64, reduction=2),
    Stage(ncb=1, ntb=1, repeats=1, ncb_channels=96, ntb_channels=128, reduction=1),
)


def nextvit_micro(*, num_classes: int = 10, in_chans: int = 3) -> NextViT:
    """Three stages of 32, 64 and 128 channels, for images of 32x32."""
    return NextViT(STAGES, num_classes=num_classes, in_chans=in_chans, stem_channels=32, stem_stride=2)
