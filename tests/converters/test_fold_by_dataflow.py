"""Folds found by dataflow on small networks: what is exact is folded, what is not stays and is explained."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from converters.artifact import ConversionError
from converters.dataflow import record
from converters.reparameterization import FusionReport, reparameterize, reparameterize_with_report

X = (2, 6, 9, 9)


def randomized(net: nn.Module, seed: int = 0) -> nn.Module:
    """float64, eval mode, every BatchNorm and layer scale far from the identity."""
    generator = torch.Generator().manual_seed(seed)
    net = net.double().eval()
    with torch.no_grad():
        for name, tensor in (*net.named_parameters(), *net.named_buffers()):
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.3)
            elif tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator, dtype=torch.float64) * 0.5)
    return net


def folded(net: nn.Module, shape: tuple[int, ...] = X) -> tuple[nn.Module, FusionReport]:
    """Reparameterize and check that nothing but the operators changed."""
    net = randomized(net)
    before = copy.deepcopy(net.state_dict())
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    fused, report = reparameterize_with_report(net, x)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), net(x), rtol=1e-9, atol=1e-9)
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)
    return fused, report


class Attributes(nn.Module):
    """Conv and BatchNorm as attributes of another name, ReLU between pairs, stride and groups."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(6, 12, 3, stride=2, padding=1, groups=3, bias=False)
        self.bn1 = nn.BatchNorm2d(12)
        self.conv2 = nn.Conv2d(12, 5, 1)
        self.bn2 = nn.BatchNorm2d(5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(x))


def test_conv_and_batchnorm_by_attribute() -> None:
    fused, report = folded(Attributes())
    assert report == FusionReport({"conv_bn": 2}, 0, ())
    assert [name for name, _ in fused.named_children()] == ["conv1", "bn1", "conv2", "bn2"]
    assert isinstance(fused.bn1, nn.Identity)


class LinearNorm(nn.Module):
    """BatchNorm over tokens that are flattened for it, as LeViT has it."""

    def __init__(self, *, transposed: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 8, bias=False)
        self.bn = nn.BatchNorm1d(8)
        self.transposed = transposed

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x.flatten(2).transpose(1, 2))
        if self.transposed:
            return self.bn(x.transpose(1, 2))
        return self.bn(x.flatten(0, 1)).reshape_as(x)


@pytest.mark.parametrize("transposed", [False, True])
def test_linear_and_batchnorm_through_reshapes(transposed: bool) -> None:
    _, report = folded(LinearNorm(transposed=transposed))
    assert report == FusionReport({"linear_bn": 1}, 0, ())


class NormTokens(nn.Module):
    """Linear over the tokens axis before a BatchNorm over channels: the axes differ."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(81, 6)
        self.bn = nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.linear(x.flatten(2)))


def test_linear_over_another_axis_stays() -> None:
    _, report = folded(NormTokens())
    assert report.folded == {}
    assert report.batchnorms_left == 1
    assert "does not act on the output channels of linear" in report.left_because[0]


class PreNorm(nn.Module):
    """One BatchNorm read by three layers, through flattening and pooling, as Next-ViT's NTB has it."""

    def __init__(self, *, padding: int = 0, pooled_padding: int = 0, also_added: bool = False) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6)
        self.conv = nn.Conv2d(6, 4, 3, padding=padding)
        self.pool = nn.AvgPool2d(2, padding=pooled_padding, ceil_mode=True)
        self.q = nn.Linear(6, 4)
        self.k = nn.Linear(6, 4, bias=False)
        self.also_added = also_added

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        tokens = self.q(normed.flatten(2).transpose(1, 2)).mean((1, 2), keepdim=True)
        pooled = self.k(self.pool(normed).permute(0, 2, 3, 1)).mean()
        result: Tensor = self.conv(normed) + tokens[..., None] + pooled
        return result + normed.mean() if self.also_added else result


def test_batchnorm_into_every_reader() -> None:
    _, report = folded(PreNorm())
    assert report == FusionReport({"bn_linear": 1}, 0, ())


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (PreNorm(padding=1), "conv pads with zeros"),
        (PreNorm(pooled_padding=1), "avg_pool2d reads its output"),
        (PreNorm(also_added=True), "mean reads its output"),
    ],
)
def test_batchnorm_with_a_reader_that_cannot_take_it_stays(net: nn.Module, reason: str) -> None:
    _, report = folded(net)
    assert report.folded == {}
    assert report.batchnorms_left == 1
    assert reason in report.left_because[0]


def test_reflecting_padding_before_a_conv_stays() -> None:
    net = nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3, padding=1, padding_mode="reflect"))
    _, report = folded(net)
    assert report.batchnorms_left == 1


def test_final_norm_goes_into_the_classifier_through_global_pooling() -> None:
    pooled = nn.Sequential(
        nn.BatchNorm2d(6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(6, 3)
    )
    _, report = folded(pooled)
    assert report == FusionReport({"bn_linear": 1}, 0, ())


def test_max_pooling_does_not_commute() -> None:
    _, report = folded(nn.Sequential(nn.BatchNorm2d(6), nn.MaxPool2d(2), nn.Conv2d(6, 3, 1)))
    assert report.batchnorms_left == 1


class Reused(nn.Module):
    """Variants of sharing, each of which makes a fold wrong."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 3, padding=1)
        self.other = nn.Conv2d(6, 6, 1)
        self.bn = nn.BatchNorm2d(6)
        self.how = how
        if how == "tied":
            self.other.weight = nn.Parameter(self.conv.weight[:, :, :1, :1].detach().clone())
            self.conv = nn.Conv2d(6, 6, 1)
            self.conv.weight = self.other.weight

    def forward(self, x: Tensor) -> Tensor:
        match self.how:
            case "output read twice":
                y = self.conv(x)
                return self.bn(y) + y
            case "output returned too":
                y = self.conv(x)
                return torch.stack([self.bn(y), y])
            case "norm used twice":
                return self.bn(self.conv(x)) + torch.relu(self.bn(self.other(x)))
            case "conv used twice":
                return self.bn(self.conv(x)) + torch.relu(self.conv(x + 1))
            case "tied":
                return self.bn(self.conv(x)) + torch.relu(self.other(x))
            case "view read":
                y = self.conv(x)
                z = y.view(2, 6, -1).mean(2)
                return self.bn(y) + z[..., None, None]
            case "changed in place":
                y = self.conv(x)
                y.relu_()
                return self.bn(y)
            case "weight regularized":
                return self.bn(self.conv(x)) + self.conv.weight.sum()
        raise AssertionError(self.how)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("output read twice", "2 readers (add, batch_norm)"),
        ("output returned too", "2 readers"),
        ("norm used twice", "bn.running_mean is used 2 times"),
        ("conv used twice", "conv.weight is used 2 times"),
        ("tied", "weight is shared: conv.weight, other.weight"),
        ("view read", "2 readers (batch_norm, view)"),
        ("changed in place", "its input comes from relu_"),
        ("weight regularized", "conv.weight is used 2 times"),
    ],
)
def test_shared_parts_are_not_folded(how: str, reason: str) -> None:
    _, report = folded(Reused(how))
    assert report.folded == {}
    assert report.batchnorms_left == 1
    assert any(reason in line for line in report.left_because), report.left_because


def test_one_module_under_two_names_is_not_folded() -> None:
    conv = nn.Conv2d(6, 6, 1)
    net = nn.Sequential(conv, nn.BatchNorm2d(6))
    net.alias = conv
    _, report = folded(net)
    assert report.folded == {}
    assert "shared: 0.weight, alias.weight" in report.left_because[0]


def test_computed_weights_are_not_folded() -> None:
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 6, 1))
    _, report = folded(nn.Sequential(conv, nn.BatchNorm2d(6)))
    assert report.folded == {}
    assert "its weight is computed in the forward pass" in report.left_because[0]


def test_transposed_convolution_stays() -> None:
    _, report = folded(nn.Sequential(nn.ConvTranspose2d(6, 6, 2), nn.BatchNorm2d(6)))
    assert report.folded == {}
    assert "its input comes from conv_transpose2d" in report.left_because[0]


def test_batchnorm_without_statistics_or_affine_stays() -> None:
    _, report = folded(nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6, track_running_stats=False)))
    assert (report.folded, report.batchnorms_left) == ({}, 1)
    assert "keeps no running_mean" in " ".join(report.left_because)
    _, report = folded(nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6, affine=False)))
    assert (report.folded, report.batchnorms_left) == ({}, 1)
    assert "no affine parameters" in report.left_because[0]


def test_batchnorm_that_never_runs_is_reported() -> None:
    net = Attributes()
    net.unused = nn.BatchNorm2d(3)
    _, report = folded(net)
    assert report.batchnorms_left == 1
    assert report.left_because == ("unused: it is not run",)


class ActingNorm(nn.BatchNorm2d):
    """A BatchNorm with a forward of its own that nothing declares."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sigmoid()


def test_unknown_batchnorm_subclass_stays() -> None:
    _, report = folded(nn.Sequential(nn.Conv2d(6, 6, 1), ActingNorm(6)))
    assert report.batchnorms_left == 1
    assert "what ActingNorm computes besides is unknown" in report.left_because[0]


class Scaled(nn.Module):
    """Layer scale as a parameter that the forward pass skips when it is None (ConvNeXt), or does not."""

    def __init__(self, *, optional: bool, bias: bool = True, last: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 6, 1, bias=bias)
        self.gamma = nn.Parameter(torch.ones(6))
        self.optional = optional
        self.last = last

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.optional and self.gamma is None:
            return x + y
        if self.last:
            return x + (y.permute(0, 2, 3, 1) * self.gamma).permute(0, 3, 1, 2)
        return x + y.mul(self.gamma.reshape(1, -1, 1, 1))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_optional_layer_scale_is_folded(bias: bool, last: bool) -> None:
    fused, report = folded(Scaled(optional=True, bias=bias, last=last))
    assert report == FusionReport({"layer_scale": 1}, 0, ())
    assert fused.gamma is None
    assert (fused.conv.bias is not None) == bias  # no bias appears where there was none


def test_layer_scale_that_the_forward_pass_needs_stays() -> None:
    fused, report = folded(Scaled(optional=False))
    assert report.folded == {}
    assert report.left_because == ("gamma: its module does not run without it",)
    assert isinstance(fused.gamma, nn.Parameter)


class LayerScale(nn.Module):
    def __init__(self, *, inplace: bool) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(6))
        self.inplace = inplace

    def forward(self, x: Tensor) -> Tensor:
        gamma = self.gamma.view(1, -1, 1, 1)
        return x.mul_(gamma) if self.inplace else x * gamma


@pytest.mark.parametrize("inplace", [False, True])
def test_layer_scale_behind_a_batchnorm_goes_into_the_conv(inplace: bool) -> None:
    parts = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), nn.Dropout(0.3)
    fused, report = folded(nn.Sequential(*parts, LayerScale(inplace=inplace)))
    assert report == FusionReport({"conv_bn": 1, "layer_scale": 1}, 0, ())
    assert isinstance(fused[3], nn.Identity)


def test_layer_scale_of_a_pooled_difference_stays() -> None:
    class Mixer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)
            self.scale = LayerScale(inplace=False)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.scale(self.pool(x) - x)

    _, report = folded(Mixer())
    assert report.folded == {}
    assert report.left_because == ("scale.gamma: its input comes from sub",)


def test_training_mode_is_refused() -> None:
    net = randomized(Attributes())
    net.bn1.train()
    with pytest.raises(ConversionError, match="bn1 is in training mode") as caught:
        reparameterize(net)
    assert caught.value.failure.kind == "bad_input"
    assert caught.value.failure.module == "bn1"


def test_network_that_does_not_run_on_the_guess_is_reported_and_sequences_are_folded() -> None:
    class TwoInputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(6, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.stem(x + y)

    net = randomized(TwoInputs())
    fused, report = reparameterize_with_report(net)
    assert report.folded == {"conv_bn": 1}
    assert "pass example_input" in report.left_because[0]
    x = torch.randn(X, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(fused(x, x), net(x, x), rtol=1e-9, atol=1e-9)


def test_example_is_guessed_from_the_first_layer() -> None:
    net = randomized(nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7)))
    assert reparameterize_with_report(net)[1].folded == {"linear_bn": 1}


def test_wrong_fold_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of the folded copy can fail: here the fold forgets the shift."""
    from converters import fold_apply

    def forgetful(layer: nn.Conv2d, norm: nn.Module) -> nn.Module:
        result = copy.deepcopy(layer)
        result.weight.data *= 1.01
        return result

    monkeypatch.setattr(fold_apply, "fold_into_previous", forgetful)
    net = randomized(Attributes())
    with pytest.raises(ConversionError, match="changed the outputs") as caught:
        reparameterize(net, torch.randn(X, dtype=torch.float64))
    assert caught.value.failure.kind == "parity_failed"


def test_recording_sees_whole_operators_and_every_reader() -> None:
    """The dispatcher shows composite operators whole only in inference mode: folding relies on it."""
    trace = record(randomized(Attributes()), torch.randn(X, dtype=torch.float64))
    assert [op.name for op in trace.ops] == ["conv2d", "batch_norm", "relu_", "conv2d", "batch_norm"]
    convolution, norm, relu, second, _ = trace.ops
    assert trace.readers[convolution.writes[0]] == [norm]
    assert trace.readers[relu.writes[0]] == [second]  # the value after the change in place
    assert norm.writes != relu.writes
