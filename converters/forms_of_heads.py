"""Two classifiers as one, and the layer scale that no layer before it can take, in forms for deployment."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from converters.reclassed import answering
from models.folding import replaced
from models.heads import averaged


def one_classifier(source: Any) -> nn.Module | None:
    """A timm network whose `head` and `head_dist` read the same and are averaged, with one classifier.

    None where one of them is no Linear, as before its BatchNorm is folded.
    """
    head, distilled = source.head, source.head_dist
    if not (isinstance(head, nn.Linear) and isinstance(distilled, nn.Linear)):
        return None
    made = answering(source, forward_head=partial(_forward_head, type(source)))
    made.head = averaged(head, distilled)
    del made.head_dist
    return made


def _forward_head(kind: Any, self: Any, x: Tensor, pre_logits: bool = False) -> Tensor:
    x = kind.forward_head(self, x, pre_logits=True)
    return x if pre_logits else self.head(x)


def scaled_norm(source: Any) -> nn.Module | None:
    """timm's `MetaFormerBlock` (PoolFormer) with the first layer scale in the norm before the pooling.

    `pool(x) - x` of a map with one value per channel is zero, as padding is not counted: so the norm's shift
    falls out, and its weight may take the scale. None where something else mixes the tokens.
    """
    norm, scale = source.norm1, getattr(source.layer_scale1, "scale", None)
    pooling = getattr(source.token_mixer, "pool", None)
    known = isinstance(pooling, nn.AvgPool2d) and not pooling.count_include_pad
    if scale is None or not known or getattr(norm, "weight", None) is None:
        return None
    with torch.no_grad():
        scaled = {name: nn.Parameter(getattr(norm, name) * scale) for name in ("weight", "bias")}
    made: nn.Module = replaced(source, norm1=replaced(norm, **scaled), layer_scale1=nn.Identity())
    return made
