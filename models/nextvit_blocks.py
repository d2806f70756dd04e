"""Next-ViT's convolution block (NCB, section 3.2) and transformer block (NTB, section 3.3).

Li et al., arXiv 2207.05501. BatchNorm and ReLU throughout, so that everything but attention folds into plain
convolutions for deployment. Where paper and published weights differ, the weights decide: the MLP ratio is 3
in NCB and 2 in NTB.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.folding import fold_into_next, fold_into_previous, replaced

HEAD_DIM = 32  # channels per attention head and per group of the multi-head convolution
MHSA_SHARE = 0.75  # r in the paper: the share of an NTB's channels that attention mixes


class ConvBNReLU(nn.Module):
    """3x3 convolution, BatchNorm, ReLU: four of them are the stem."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        out: Tensor = self.act(self.norm(self.conv(x)))
        return out

    def fuse(self) -> nn.Module:
        return replaced(self, conv=fold_into_previous(self.conv, self.norm), norm=nn.Identity())


class PatchEmbed(nn.Module):
    """Average pooling where the stride is 2, then 1x1 convolution and BatchNorm.

    Identity where nothing changes. Odd sides are rounded up; the padding that takes is not averaged in.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        changes = stride == 2 or in_channels != out_channels
        pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
        self.pool = pool if stride == 2 else nn.Identity()
        self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False) if changes else nn.Identity()
        self.norm: nn.Module = nn.BatchNorm2d(out_channels) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        out: Tensor = self.norm(self.conv(self.pool(x)))
        return out

    def fuse(self) -> nn.Module:
        return replaced(self, conv=fold_into_previous(self.conv, self.norm), norm=nn.Identity())


class MHCA(nn.Module):
    """Multi-Head Convolutional Attention (section 3.2): each head is a group of a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        groups = channels // HEAD_DIM
        self.group_conv3x3 = nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(channels)
        self.act = nn.ReLU()
        self.projection = nn.Conv2d(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        x = self.act(self.norm(self.group_conv3x3(x)))
        out: Tensor = self.projection(x)
        return out

    def fuse(self) -> nn.Module:
        conv = fold_into_previous(self.group_conv3x3, self.norm)
        return replaced(self, group_conv3x3=conv, norm=nn.Identity())


class Mlp(nn.Module):
    """Two 1x1 convolutions with a ReLU between."""

    def __init__(self, channels: int, *, ratio: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, int(channels * ratio), 1)
        self.act = nn.ReLU()
        self.conv2 = nn.Conv2d(int(channels * ratio), channels, 1)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        out: Tensor = self.conv2(self.act(self.conv1(x)))
        return out

    def after(self, norm: nn.Module) -> Mlp:
        """The Mlp that computes `self(norm(x))`."""
        (conv1,) = fold_into_next(norm, self.conv1)
        return replaced(self, conv1=conv1)


class NCB(nn.Module):
    """Next Convolution Block (section 3.2): `x + MHCA(x)`, then `x + MLP(BN(x))`."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, mlp_ratio: float = 3.0
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(in_channels, out_channels, stride=stride)
        self.mhca = MHCA(out_channels)
        self.norm: nn.Module = nn.BatchNorm2d(out_channels)
        self.mlp = Mlp(out_channels, ratio=mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        x = self.patch_embed(x)
        x = x + self.mhca(x)
        out: Tensor = x + self.mlp(self.norm(x))
        return out

    def module_kinds(self) -> dict[str, str]:
        """What the paper calls the parts, by module path."""
        return {"patch_embed": "patch embedding", "mhca": "MHCA", "mlp": "MLP"}

    def fuse(self) -> nn.Module:
        return replaced(self, mlp=self.mlp.after(self.norm), norm=nn.Identity())


class EMHSA(nn.Module):
    """Efficient Multi-Head Self-Attention (section 3.3).

    Keys and values come from the average of every `reduction**2` consecutive tokens in raster order; tokens
    left over at the end are in no average, as in the published network.

    The linear maps are 1x1 convolutions and channels stay in front. On ONNX Runtime 1.31, one thread of an
    AVX-512 server core, that is 5 to 12 % faster than (B, N, C) with Linear at the network's three shapes
    (28x28x192, 14x14x384, 7x7x768), and it exports 3 transposes and 5 reshapes in place of 7 and 9. Attention
    is written out: `scaled_dot_product_attention` exports one multiplication more, since its decomposition
    scales queries and keys apart, and is no faster there.
    """

    def __init__(self, channels: int, *, reduction: int) -> None:
        super().__init__()
        self.heads = channels // HEAD_DIM
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)
        self.pool = nn.AvgPool2d((1, reduction**2)) if reduction > 1 else nn.Identity()
        self.norm: nn.Module = nn.BatchNorm2d(channels) if reduction > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W)
        b, c, h, w = x.shape
        tokens = self.norm(self.pool(x.reshape(b, c, 1, h * w)))  # (B, C, 1, M), M = H*W / reduction**2
        q = self.q(x).reshape(b, self.heads, HEAD_DIM, h * w)  # (B, heads, 32, N), N = H*W
        k = self.k(tokens).reshape(b, self.heads, HEAD_DIM, -1)  # (B, heads, 32, M)
        v = self.v(tokens).reshape(b, self.heads, HEAD_DIM, -1)  # (B, heads, 32, M)
        attention = (q * HEAD_DIM**-0.5).transpose(2, 3) @ k  # (B, heads, N, M)
        x = attention.softmax(dim=3) @ v.transpose(2, 3)  # (B, heads, N, 32)
        out: Tensor = self.proj(x.transpose(2, 3).reshape(b, c, h, w))
        return out

    def fuse(self) -> nn.Module:
        k, v = fold_into_next(self.norm, self.k, self.v)
        return replaced(self, k=k, v=v, norm=nn.Identity())

    def after(self, norm: nn.Module) -> EMHSA:
        """The fused EMHSA that computes `self(norm(x))`.

        Averaging over tokens commutes with `norm`, so k and v take it through the pooling.
        """
        k, v = fold_into_next(self.norm, self.k, self.v)
        q, k, v = fold_into_next(norm, self.q, k, v)
        return replaced(self, q=q, k=k, v=v, norm=nn.Identity())


class NTB(nn.Module):
    """Next Transformer Block (section 3.3): E-MHSA on a share of the channels, MHCA on the rest.

    Attention mixes MHSA_SHARE of the channels, rounded to whole heads; a 1x1 projection to as many channels
    as are left is mixed by MHCA; both are concatenated for the MLP.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        reduction: int,
        mlp_ratio: float = 2.0,
    ) -> None:
        super().__init__()
        mhsa_channels = mhsa_width(out_channels)
        mhca_channels = out_channels - mhsa_channels
        self.patch_embed = PatchEmbed(in_channels, mhsa_channels, stride=stride)
        self.norm1: nn.Module = nn.BatchNorm2d(mhsa_channels)
        self.e_mhsa = EMHSA(mhsa_channels, reduction=reduction)
        self.projection = PatchEmbed(mhsa_channels, mhca_channels)
        self.mhca = MHCA(mhca_channels)
        self.norm2: nn.Module = nn.BatchNorm2d(out_channels)
        self.mlp = Mlp(out_channels, ratio=mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', H/stride, W/stride)
        x = self.patch_embed(x)  # (B, r*C', H', W')
        x = x + self.e_mhsa(self.norm1(x))
        y = self.projection(x)  # (B, (1-r)*C', H', W')
        y = y + self.mhca(y)
        x = torch.cat((x, y), dim=1)  # (B, C', H', W')
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def module_kinds(self) -> dict[str, str]:
        """What the paper calls the parts, by module path."""
        return {
            "patch_embed": "patch embedding",
            "e_mhsa": "E-MHSA",
            "projection": "projection",
            "mhca": "MHCA",
            "mlp": "MLP",
        }

    def fuse(self) -> nn.Module:
        return replaced(
            self,
            e_mhsa=self.e_mhsa.after(self.norm1),
            norm1=nn.Identity(),
            mlp=self.mlp.after(self.norm2),
            norm2=nn.Identity(),
        )


def ncb(
    *,
    in_channels: int,
    out_channels: int | None = None,
    stride: int = 1,
    resolution: int,
    mlp_ratio: float = 3.0,
) -> NCB:
    """One NCB; the convolutions take any resolution."""
    return NCB(in_channels, out_channels or in_channels, stride=stride, mlp_ratio=mlp_ratio)


def ntb(
    *,
    in_channels: int,
    out_channels: int | None = None,
    stride: int = 1,
    resolution: int,
    reduction: int | None = None,
    mlp_ratio: float = 2.0,
) -> NTB:
    """One NTB whose attention keeps about 49 keys at `resolution`, unless `reduction` is given."""
    return NTB(
        in_channels,
        out_channels or in_channels,
        stride=stride,
        reduction=reduction or default_reduction(math.ceil(resolution / stride)),
        mlp_ratio=mlp_ratio,
    )


def default_reduction(side: int) -> int:
    """The power of two that keeps about 7x7 keys of a `side` x `side` map: 8, 4, 2, 1 at 56, 28, 14, 7."""
    return 1 << max(0, round(math.log2(side / 7)))


def mhsa_width(channels: int) -> int:
    """MHSA_SHARE of the channels, rounded to whole heads, not below 90 % of it, one head left for MHCA.

    The last rule only binds at 64 and 96 channels, where no variant has an NTB and comparisons of blocks do.
    """
    wanted = int(channels * MHSA_SHARE)
    width = max(HEAD_DIM, (wanted + HEAD_DIM // 2) // HEAD_DIM * HEAD_DIM)
    width = width if width >= 0.9 * wanted else width + HEAD_DIM
    return min(width, channels - HEAD_DIM)
