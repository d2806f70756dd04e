"""Knowledge distillation (Hinton et al., arXiv 1503.02531): a trained teacher's answers as soft labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.image_data import Preprocessing


class Teacher(nn.Module):
    """A frozen network that takes the student's images, normalized as its own were."""

    scale: Tensor
    shift: Tensor

    def __init__(self, net: nn.Module, *, own: Preprocessing, students: Preprocessing) -> None:
        super().__init__()
        self.net = net.eval().requires_grad_(False)
        mean, std = torch.tensor(own.mean), torch.tensor(own.std)
        their_mean, their_std = torch.tensor(students.mean), torch.tensor(students.std)
        self.register_buffer("scale", (their_std / std)[:, None, None])
        self.register_buffer("shift", ((their_mean - mean) / std)[:, None, None])

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) -> (B, classes)
        out: Tensor = self.net(images * self.scale + self.shift)
        return out


def distillation_loss(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """Kullback-Leibler divergence of logits (B, classes) at a temperature, times its square (section 2)."""
    return temperature**2 * functional.kl_div(
        functional.log_softmax(student.float() / temperature, dim=1),
        functional.log_softmax(teacher.float() / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
