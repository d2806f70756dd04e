"""The parts of a training against formulas and hand computation: rates, averages, losses, labels, presets."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import models
from models import training_files as files
from models.distillation import Teacher, distillation_loss
from models.errors import CheckpointError, ModelError
from models.image_data import Preprocessing
from models.image_loading import seeded
from models.info import INFO
from models.learner import Learner, build_network
from models.processes import Processes
from models.recipe import RECIPES, Recipe, RecipeError, recipe
from models.spec import ModelSpec
from models.stochastic_depth import BRANCHES, add_stochastic_depth
from models.training_plan import plan
from models.training_request import TrainRequest

CPU = Processes(torch.device("cpu"))
SMALL = Recipe(
    resolution=16, epochs=10, batch_size=100, lr=1e-2, min_lr=1e-4, warmup_epochs=2, mixup=0.8, cutmix=1.0
)


def learner(tmp_path: Path, *, chosen: Recipe = SMALL, **changes) -> Learner:
    request = TrainRequest("nextvit_micro", chosen, tmp_path, **changes)
    return Learner(plan(request, CPU), request, CPU.device)


def test_the_rate_warms_up_and_falls_along_a_cosine(tmp_path):
    made = learner(tmp_path)
    steps = 1433 // 100
    total, warmup = 10 * steps, 2 * steps
    for step in (0, 1, warmup - 1, warmup, warmup + 1, total // 2, total - 1):
        made.schedule.step_update(step)
        if step < warmup:
            expected = 1e-6 + (1e-2 - 1e-6) * step / warmup
        else:
            expected = 1e-4 + (1e-2 - 1e-4) * (1 + math.cos(math.pi * step / total)) / 2
        assert [group["lr"] for group in made.optimizer.param_groups] == pytest.approx(
            [expected] * 2, rel=1e-12
        )


def test_equal_rates_at_both_ends_are_a_constant_rate(tmp_path):
    made = learner(tmp_path, chosen=SMALL.model_copy(update={"lr": 1e-5, "min_lr": 1e-5, "warmup_epochs": 0}))
    for step in (0, 7, 139):
        made.schedule.step_update(step)
        assert made.optimizer.param_groups[0]["lr"] == pytest.approx(1e-5, rel=1e-12)


def test_norms_and_biases_do_not_decay(tmp_path):
    made = learner(tmp_path)
    decays = {id(p): group["weight_decay"] for group in made.optimizer.param_groups for p in group["params"]}
    for name, parameter in made.net.named_parameters():
        assert decays[id(parameter)] == (0.05 if parameter.ndim > 1 else 0.0), name


def test_what_a_network_names_itself_does_not_decay_either(tmp_path):
    request = TrainRequest("timm/test_vit", SMALL, tmp_path, (("img_size", 16), ("patch_size", 4)))
    made = Learner(plan(request, CPU), request, CPU.device)
    decays = {id(p): group["weight_decay"] for group in made.optimizer.param_groups for p in group["params"]}
    free = {name for name, p in made.net.named_parameters() if p.ndim > 1 and not decays[id(p)]}
    assert free == {"pos_embed", "cls_token"}
    vectors = [p for p in made.net.parameters() if p.ndim <= 1]
    assert {decays[id(p)] for p in vectors} == {0.0}
    assert set(decays.values()) == {0.0, 0.05}


def test_the_average_is_what_the_formula_says(tmp_path):
    """Decay 0.9 after a warm-up of 1 - (1 + n)^(-2/3), n from the step before: 0, 0, 0.37, 0.52, ..."""
    made = learner(tmp_path, chosen=SMALL.model_copy(update={"ema_decay": 0.9}))
    name = "head.weight"
    expected = made.net.state_dict()[name].clone()
    for step in range(60):
        images = torch.full((2, 3, 16, 16), float(step))
        made.backward(made.net(images).square().mean())
        made.update(step)
        n = max(0, step - 1)
        decay = min(0.9, 1 - (1 + n) ** (-2 / 3)) if n else 0.0
        expected = decay * expected + (1 - decay) * made.net.state_dict()[name]
    assert decay == 0.9
    torch.testing.assert_close(made.average.state_dict()[name], expected)
    assert not torch.equal(made.average.state_dict()[name], made.net.state_dict()[name])


def test_gradients_are_clipped_to_the_norm(tmp_path):
    made = learner(tmp_path, chosen=SMALL.model_copy(update={"clip_norm": 0.5}))
    seen = []
    step = made.optimizer.step
    made.optimizer.step = lambda: seen.append([p.grad.clone() for p in made.net.parameters()]) or step()
    made.backward(1e8 * made.net(torch.randn(2, 3, 16, 16)).square().mean())
    norm = made.update(0)
    assert norm > 0.5
    assert torch.cat([gradient.flatten() for gradient in seen[0]]).norm() == pytest.approx(0.5, rel=1e-3)


def test_mixed_images_have_mixed_labels(tmp_path):
    made = learner(tmp_path)
    images, labels = torch.rand(8, 3, 16, 16), torch.arange(8)
    with seeded(0):
        mixed, targets = made.mixup(images.clone(), labels)
    assert targets.shape == (8, 10)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(8))
    share = targets[0, 0].item()
    assert 0.01 < share < 0.92
    assert targets[0, 7].item() == pytest.approx(0.92 - share, abs=1e-5)  # smoothing leaves 0.9 + 2 * 0.01
    assert not torch.equal(mixed, images)


def test_the_loss_without_mixing_is_smoothed_cross_entropy(tmp_path):
    made = learner(tmp_path, chosen=SMALL.model_copy(update={"mixup": 0.0, "cutmix": 0.0}))
    images, labels = torch.rand(4, 3, 16, 16), torch.tensor([3, 1, 4, 1])
    made.net.eval()
    log = functional.log_softmax(made.net(images), dim=1)
    by_hand = -(0.9 * log[range(4), labels] + 0.1 * log.mean(dim=1)).mean()
    torch.testing.assert_close(made.loss(made.net, images, labels), by_hand)


def test_distillation_follows_its_formula():
    student, teacher = torch.randn(5, 10), torch.randn(5, 10)
    assert distillation_loss(student, student.clone(), temperature=3.0) == pytest.approx(0, abs=1e-6)
    p, q = (teacher / 3).softmax(dim=1), (student / 3).softmax(dim=1)
    by_hand = 9 * (p * (p / q).log()).sum(dim=1).mean()
    torch.testing.assert_close(distillation_loss(student, teacher, temperature=3.0), by_hand)


def test_a_teacher_sees_images_normalized_as_its_own():
    theirs = Preprocessing(8, (0.5, 0.4, 0.3), (0.1, 0.2, 0.3), "bicubic", 1.0, "center")
    ours = Preprocessing(8, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "bicubic", 1.0, "center")
    pixels = torch.rand(2, 3, 8, 8)

    def normalized(steps: Preprocessing) -> torch.Tensor:
        return (pixels - torch.tensor(steps.mean)[:, None, None]) / torch.tensor(steps.std)[:, None, None]

    teacher = Teacher(nn.Identity(), own=theirs, students=ours)
    torch.testing.assert_close(teacher(normalized(ours)), normalized(theirs))


def test_a_student_learns_from_a_teacher_of_timm(tmp_path):
    chosen = SMALL.model_copy(update={"epochs": 1, "warmup_epochs": 0, "distill_weight": 1.0})
    made = learner(tmp_path, chosen=chosen, teacher="timm/resnet18")
    assert made.teacher is not None
    images, labels = torch.rand(4, 3, 16, 16), torch.arange(4)
    made.backward(made.loss(made.net, images, labels))
    assert all(parameter.grad is None for parameter in made.teacher.parameters())
    assert made.net.head.weight.grad.abs().sum() > 0


def test_stochastic_depth_drops_branches_only_in_training():
    net = models.build("nextvit_micro")
    images = torch.randn(64, 3, 16, 16)
    expected = net(images)
    add_stochastic_depth(net, 0.5)
    assert torch.equal(net(images), expected)
    branch = net.stages[2][1].mlp.train()
    out = branch(torch.randn(2000, 128, 1, 1))
    dropped = (out == 0).flatten(1).all(dim=1).float().mean().item()
    assert dropped == pytest.approx(0.5, abs=0.05)
    assert not (net.stages[0][0].mlp.train()(torch.randn(200, 32, 1, 1)) == 0).flatten(1).all(dim=1).any()


def test_stochastic_depth_of_timm_is_its_own():
    chosen = SMALL.model_copy(update={"stochastic_depth": 0.3, "resolution": 32})
    net = build_network(ModelSpec.of("timm/convnext_atto", resolution=32, num_classes=10), chosen)
    assert max(getattr(module, "drop_prob", 0.0) for module in net.modules()) == pytest.approx(0.3)


def test_weights_of_a_seed_are_equal():
    spec = ModelSpec.of("nextvit_micro", resolution=16, num_classes=10)
    one, two, other = (build_network(spec, SMALL.model_copy(update={"seed": seed})) for seed in (1, 1, 2))
    assert torch.equal(one.head.weight, two.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)


def test_every_epoch_has_another_order_and_every_image_another_seed(tmp_path):
    made = plan(TrainRequest("nextvit_micro", SMALL, tmp_path), CPU)
    draws = [draw for batch in made.draws(0, CPU) for draw in batch]
    first, second = (draws[epoch * 1400 : (epoch + 1) * 1400] for epoch in (0, 1))
    for epoch in (first, second):
        assert len({draw.index for draw in epoch}) == 1400
    assert [draw.index for draw in first] != [draw.index for draw in second]
    assert len({draw.seed for draw in draws}) == len(draws) == 14_000
    assert list(made.draws(33, CPU)) == list(made.draws(0, CPU))[33:]


@pytest.mark.parametrize(("count", "parts"), [(2, 1), (1, 2), (2, 2)])
def test_processes_and_parts_share_one_batch(tmp_path, count, parts):
    chosen = SMALL.model_copy(update={"batch_size": 96})
    whole = next(plan(TrainRequest("nextvit_micro", chosen, tmp_path), CPU).draws(0, CPU))
    shares = []
    for rank in range(count):
        process = Processes(CPU.device, rank, count)
        made = plan(TrainRequest("nextvit_micro", chosen, tmp_path, accumulate=parts), process)
        draws = made.draws(0, process)
        shares += [draw for _ in range(parts) for draw in next(draws)]
    assert sorted(shares, key=lambda draw: draw.seed) == sorted(whole, key=lambda draw: draw.seed)


@pytest.mark.parametrize(
    ("model", "rate"), [("nextvit_small", 0.1), ("nextvit_base", 0.2), ("nextvit_large", 0.2)]
)
def test_the_papers_recipe(model, rate):
    """arXiv 2207.05501, section 4.1; a rate of 5e-4 (5e-6) per 512 images in the official README."""
    chosen = recipe("nextvit", model=model, changes={})
    assert (chosen.epochs, chosen.warmup_epochs, chosen.batch_size) == (300, 20, 2048)
    assert (chosen.lr, chosen.weight_decay, chosen.stochastic_depth) == (5e-4 * 2048 / 512, 0.1, rate)
    tuned = recipe("nextvit-384", model=model, changes={})
    assert (tuned.resolution, tuned.epochs, tuned.lr, tuned.min_lr) == (384, 30, 5e-6 * 1024 / 512, 1e-5)
    assert (tuned.weight_decay, tuned.warmup_epochs, tuned.stochastic_depth) == (1e-8, 0, rate)


@pytest.mark.parametrize("preset", ["digits", "nextvit"])
def test_a_network_without_branches_for_it_has_no_stochastic_depth_by_itself(preset):
    assert recipe(preset, model="blocknet/convnext", changes={}).stochastic_depth == 0.0
    assert recipe(preset, model="blocknet/ncb", changes={}).stochastic_depth > 0.0
    assert recipe(preset, model="timm/resnet18", changes={}).stochastic_depth > 0.0  # it has its own
    asked = recipe(preset, model="blocknet/convnext", changes={"stochastic_depth": 0.1})
    spec = ModelSpec.of("blocknet/convnext", resolution=32, num_classes=10)
    with pytest.raises(ModelError, match=r"stochastic_depth=0\.1: BlockNetwork has no Next-ViT block for it"):
        build_network(spec, asked)


@pytest.mark.parametrize("name", [name for name in INFO if not name.startswith(("block/", "peak/"))])
def test_the_facts_tell_which_networks_have_branches(name):
    with torch.device("meta"):
        net = models.build(name)
    assert any(type(module) in BRANCHES for module in net.modules()) == INFO[name].stochastic_depth


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("nextvitt", {}, "unknown preset 'nextvitt': did you mean nextvit"),
        ("digits", {"weight_deca": 1.0}, "unknown setting 'weight_deca': did you mean weight_decay"),
        ("digits", {"epochs": 0}, "epochs=0: .* greater than or equal to 1"),
        ("digits", {"epochs": 2.5}, "epochs=2.5: .* valid integer"),
        ("digits", {"lr": float("nan")}, "lr=nan"),
        ("digits", {"precision": "fp8"}, "precision='fp8': .* 'fp32', 'bf16' or 'fp16'"),
        ("digits", {"rand_augment": "rand-m9-oops"}, "rand_augment='rand-m9-oops'"),
        ("digits", {"min_lr": 1.0}, "min_lr=1: is above lr=0.002"),
        ("digits", {"epochs": 2}, "warmup_epochs=3: must be below epochs=2, or 0"),
        ("digits", {"batch_size": 31}, "batch_size=31: must be even"),
    ],
)
def test_a_recipe_that_cannot_be(name, changes, message):
    with pytest.raises(RecipeError, match=message):
        recipe(name, model="nextvit_micro", changes=changes)


@pytest.mark.parametrize("name", RECIPES)
def test_every_preset_is_valid(name):
    recipe(name, model="nextvit_small", changes={"rand_augment": 0})


def test_what_is_no_checkpoint_of_a_training(tmp_path):
    path = tmp_path / "state.safetensors"
    path.write_bytes(b"broken")
    with pytest.raises(CheckpointError, match="not a complete checkpoint of a training"):
        files.read(path)
    files.save(path, {"weight": torch.ones(2)}, {"step": 3})
    path.write_bytes(path.read_bytes().replace(b'{\\"schema\\": 1', b'{\\"schema\\": 9'))
    with pytest.raises(CheckpointError, match="schema 9, not 1"):
        files.read(path)


def test_a_network_that_is_no_classifier():
    spec = ModelSpec.of("block/ncb", resolution=14, in_channels=32)
    with pytest.raises(ModelError, match="it is no classifier"):
        build_network(spec, SMALL)
