"""Every operator of the interpreter against coremltools' own evaluation of constants, or against PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from converters.mil_call import Call, UnsupportedOpError
from converters.mil_interpreter import OPS
from tests.converters.mil_programs import inferred, interpreted, normal

X = normal(2, 3, 4, 5)
POSITIVE = np.abs(X) + 0.5
WITHIN = np.clip(X / 4, -0.9, 0.9)
INTEGERS = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
TRUTHS = X > 0

INFERRED = [
    *(
        (op, {"x": X}, {})
        for op in (
            "abs", "atan", "ceil", "cos", "cosh", "erf", "exp", "exp2", "floor", "identity", "relu", "relu6",
            "round", "sigmoid", "sign", "sin", "sinh", "softplus", "softsign", "square", "tan", "tanh",
        )
    ),
    *((op, {"x": POSITIVE}, {}) for op in ("sqrt", "inverse", "log", "rsqrt")),
    *((op, {"x": POSITIVE}, {"epsilon": 0.1}) for op in ("inverse", "log", "rsqrt")),
    *((op, {"x": WITHIN}, {}) for op in ("acos", "asin", "atanh")),
    *((op, {"x": X, "y": POSITIVE}, {}) for op in ("add", "sub", "mul", "real_div", "maximum", "minimum")),
    *((op, {"x": X, "y": POSITIVE[:1, :, :1]}, {}) for op in ("mod", "floor_div")),
    *((op, {"x": X, "y": X[::-1].copy()}, {}) for op in ("equal", "not_equal", "greater", "greater_equal")),
    *((op, {"x": X, "y": X[:, :1]}, {}) for op in ("less", "less_equal")),
    *((op, {"x": TRUTHS, "y": ~TRUTHS[:1]}, {}) for op in ("logical_and", "logical_or", "logical_xor")),
    ("logical_not", {"x": TRUTHS}, {}),
    ("pow", {"x": POSITIVE, "y": X}, {}),
    ("mod", {"x": INTEGERS - 9, "y": np.int32([5])}, {}),
    ("floor_div", {"x": INTEGERS - 9, "y": np.int32([5])}, {}),
    ("threshold", {"x": X}, {"alpha": 0.2}),
    ("clip", {"x": X}, {"alpha": -0.3, "beta": 0.7}),
    ("gelu", {"x": X}, {"mode": "EXACT"}),
    ("gelu", {"x": X}, {"mode": "TANH_APPROXIMATION"}),
    ("gelu", {"x": X}, {"mode": "SIGMOID_APPROXIMATION"}),
    *((op, {"x": X}, {"alpha": 0.3}) for op in ("elu", "leaky_relu", "thresholded_relu")),
    *(
        (op, {"x": X}, {"alpha": 0.3, "beta": 0.6})
        for op in ("clamped_relu", "linear_activation", "scaled_tanh", "sigmoid_hard")
    ),
    ("prelu", {"x": X}, {"alpha": np.float32([0.1, 0.5, 2])}),
    ("softplus_parametric", {"x": X}, {"alpha": np.float32([1, 2, 3]), "beta": np.float32([2, 1, 0.5])}),
    *(("cast", {"x": X * 3}, {"dtype": kind}) for kind in ("int32", "bool", "fp32")),
    *(("softmax", {"x": X * 5}, {"axis": axis}) for axis in (-1, 1)),
    ("l2_norm", {"x": X}, {}),
    ("l2_norm", {"x": X}, {"epsilon": 0.5}),
    ("layer_norm", {"x": X}, {"axes": [-1]}),
    ("layer_norm", {"x": X}, {"axes": [1, 3], "gamma": normal(3, 5), "beta": normal(3, 5), "epsilon": 0.1}),
    *(
        (f"reduce_{kind}", {"x": POSITIVE}, attributes)
        for kind in (
            "mean", "sum", "max", "min", "prod", "l1_norm", "l2_norm", "sum_square", "log_sum", "log_sum_exp",
        )
        for attributes in ({"axes": [1, -1]}, {"axes": [2], "keep_dims": True}, {"axes": None})
    ),
    *((f"reduce_arg{kind}", {"x": X}, {"axis": 2}) for kind in ("max", "min")),
    ("reduce_argmax", {"x": X}, {"axis": -1, "keep_dims": True}),
    ("linear", {"x": X}, {"weight": normal(7, 5), "bias": normal(7)}),
    ("linear", {"x": X}, {"weight": normal(7, 5)}),
    ("matmul", {"x": X, "y": normal(2, 1, 5, 6)}, {}),
    ("matmul", {"x": X, "y": normal(3, 4, 6)}, {"transpose_x": True}),
    ("matmul", {"x": X, "y": normal(6, 5)}, {"transpose_y": True}),
    ("reshape", {"x": X}, {"shape": [2, -1, 5]}),
    ("reshape", {"x": X}, {"shape": [0, 12, -1, 1][:4]}),
    ("transpose", {"x": X}, {"perm": [0, 2, 3, 1]}),
    ("expand_dims", {"x": X[0]}, {"axes": [0, -1]}),
    ("squeeze", {"x": X[:1, :, :1]}, {"axes": [0, 2]}),
    ("squeeze", {"x": X[:1, :, :1]}, {}),
    ("split", {"x": X}, {"num_splits": 2, "axis": 2}),
    ("split", {"x": X}, {"split_sizes": [1, 3, 1], "axis": -1}),
    ("slice_by_size", {"x": X}, {"begin": [0, 1, 2, 0], "size": [-1, 2, 2, 3]}),
    ("gather", {"x": X}, {"indices": np.int32([2, 0, 0]), "axis": 1}),
    ("gather", {"x": X}, {"indices": np.int32([[2, -1], [0, 1]]), "axis": -2}),
    ("gather", {"x": X}, {"indices": np.int32(1), "axis": 1}),
    ("gather", {"x": X}, {"indices": np.int32([[2, 1], [0, 1]]), "axis": 1, "batch_dims": 1}),
    ("gather_along_axis", {"x": X}, {"indices": np.full((2, 3, 2, 5), 3, np.int32), "axis": 2}),
    ("tile", {"x": X}, {"reps": [1, 2, 1, 3]}),
    ("pad", {"x": X}, {"pad": [1, 2, 3, 0], "constant_val": 1.5}),
    ("pad", {"x": X}, {"pad": [0, 0, 1, 1, 2, 1, 3, 4], "mode": "reflect"}),
    ("pad", {"x": X}, {"pad": [2, 1, 3, 4], "mode": "replicate"}),
    ("reverse", {"x": X}, {"axes": [1, -1]}),
    ("reverse", {"x": X}, {}),
    ("flatten2d", {"x": X}, {"axis": 2}),
    ("flatten2d", {"x": X}, {"axis": -1}),
    ("shape", {"x": X}, {}),
    ("cumsum", {"x": X}, {"axis": 2}),
    ("band_part", {"x": X}, {"lower": 1, "upper": 2}),
    ("band_part", {"x": X}, {"lower": -1, "upper": 0}),
    ("argsort", {"x": X}, {"axis": 2}),
    ("argsort", {"x": X}, {"axis": -1, "ascending": True}),
    ("fill_like", {"ref_tensor": X}, {"value": 2.5}),
    (
        "quantize",
        {"input": X * 30},
        {"scale": np.float32(0.3), "zero_point": np.int8(3), "output_dtype": "int8"},
    ),
    ("quantize", {"input": X}, {"scale": np.float32([0.1, 1, 2]), "axis": 1, "output_dtype": "uint8"}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"), INFERRED, ids=[f"{op}{i}" for i, (op, _, _) in enumerate(INFERRED)]
)
def test_equals_coremltools_own_evaluation(op, inputs, attributes):
    ours, theirs = interpreted(op, inputs, **attributes), inferred(op, inputs, **attributes)
    assert len(ours) == len(theirs)
    for mine, value in zip(ours, theirs, strict=True):
        value = np.asarray(value)
        assert mine.shape == value.shape or value.size == mine.size == 1
        np.testing.assert_allclose(mine, value.astype(np.float32), rtol=2e-5, atol=2e-6)


def test_values_joined_and_chosen():
    values = [normal(2, 3, seed=seed) for seed in range(3)]
    tensors = tuple(map(torch.from_numpy, values))
    for axis in (0, 1, -1):
        joined = call("concat", values=tensors, axis=torch.tensor(axis))
        np.testing.assert_array_equal(joined, inferred("concat", {"values": values}, axis=axis)[0])
        np.testing.assert_array_equal(
            call("stack", values=tensors, axis=torch.tensor(axis)), np.stack(values, axis)
        )
    chosen = call("select", cond=torch.tensor([True, False]), a=torch.ones(2), b=torch.zeros(2))
    assert chosen.tolist() == [1, 0]


def test_interleaved_values_take_turns():
    """By the reference: coremltools' own evaluation leaves `interleave` out."""
    values = tuple(torch.tensor([[10 * k, 10 * k + 1]]) for k in range(3))
    joined = call("concat", values=values, axis=torch.tensor(1), interleave=torch.tensor(True))
    assert joined.tolist() == [[0, 10, 20, 1, 11, 21]]


def test_what_coremltools_does_not_evaluate():
    x = torch.from_numpy(X)
    found = call("gather_nd", x=x, indices=torch.tensor([[0, 1], [1, 2]]))
    np.testing.assert_array_equal(found, X[[0, 1], [1, 2]])
    hot = call("one_hot", indices=torch.tensor([[0, 2], [1, -2]]), one_hot_vector_size=torch.tensor(3))
    assert hot.tolist() == [[[1, 0, 0], [0, 0, 1]], [[0, 1, 0], [0, 1, 0]]]
    truth = torch.tensor(True)
    total = call("cumsum", x=x, axis=torch.tensor(1), exclusive=truth, reverse=truth)
    np.testing.assert_allclose(total, np.stack([X[:, 1:].sum(1), X[:, 2], 0 * X[:, 0]], 1), atol=1e-6)
    scale, zero_point = np.float32([0.1, 1, 2]), np.int8([1, 2, 3])
    stored = (X * 30).astype(np.int8)
    settings = {"scale": scale, "zero_point": zero_point, "axis": 1}
    wanted = (stored - zero_point.reshape(-1, 1, 1)) * scale.reshape(-1, 1, 1)
    np.testing.assert_allclose(interpreted("dequantize", {"input": stored}, **settings)[0], wanted, rtol=1e-6)


def call(op, **arguments):
    return OPS[op](Call(op, "made", arguments))


@given(
    st.lists(
        st.tuples(
            st.integers(-7, 7), st.integers(-7, 7), st.sampled_from([1, 2, 3]), st.booleans(), st.booleans()
        ),
        min_size=3,
        max_size=3,
    )
)
@settings(max_examples=60, deadline=None)
def test_slice_by_index_is_numpys(axes):
    x = normal(5, 6, 7)
    begin, end, stride, no_begin, no_end = zip(*axes, strict=True)
    index = tuple(
        slice(None if nb else b, None if ne else e, s)
        for b, e, s, nb, ne in zip(begin, end, stride, no_begin, no_end, strict=True)
    )
    ours = call(
        "slice_by_index",
        x=torch.from_numpy(x),
        begin=torch.tensor(begin),
        end=torch.tensor(end),
        stride=torch.tensor(stride),
        begin_mask=torch.tensor(no_begin),
        end_mask=torch.tensor(no_end),
    )
    np.testing.assert_array_equal(ours, x[index])


@pytest.mark.parametrize("place", [0, 2, -1])
def test_slice_by_index_takes_one_element_of_a_squeezed_axis(place):
    attributes = {"begin": [0, place, 0, 1], "end": [2, 0, 4, 4], "squeeze_mask": [False, True, False, False]}
    ours = interpreted("slice_by_index", {"x": X}, **attributes)[0]
    np.testing.assert_array_equal(ours, X[:, place, :, 1:4])


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(("groups", "stride", "dilation"), [(1, 1, 1), (2, 2, 1), (4, 1, 2), (1, 3, 2)])
def test_convolution(rank, groups, stride, dilation):
    x, weight, bias = normal(2, 4, *(9,) * rank), normal(8, 4 // groups, *(3,) * rank), normal(8)
    ours = interpreted(
        "conv",
        {"x": x},
        weight=weight,
        bias=bias,
        strides=[stride] * rank,
        dilations=[dilation] * rank,
        groups=groups,
        pad_type="custom",
        pad=[1, 2] * rank,
    )[0]
    function = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
    padded = functional.pad(torch.from_numpy(x), [1, 2] * rank)
    theirs = function(
        padded, *map(torch.from_numpy, (weight, bias)), stride=stride, dilation=dilation, groups=groups
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "dilation"), [(7, 3, 1, 1), (8, 3, 2, 1), (8, 4, 1, 1), (9, 2, 3, 2)]
)
@pytest.mark.parametrize("pad_type", ["valid", "same", "same_lower"])
def test_padding_types(side, kernel, stride, dilation, pad_type):
    """`same`: as many outputs as strides fit, what is odd behind; `same_lower`: in front."""
    x, weight = normal(1, 1, side), normal(1, 1, kernel)
    ours = interpreted(
        "conv", {"x": x}, weight=weight, strides=[stride], dilations=[dilation], pad_type=pad_type
    )[0]
    window = (kernel - 1) * dilation + 1
    total = 0 if pad_type == "valid" else max(0, (-(-side // stride) - 1) * stride + window - side)
    front = total // 2 if pad_type == "same" else total - total // 2
    padded = np.pad(x[0, 0], (front, total - front))
    taps = weight[0, 0]
    wanted = [
        sum(taps[k] * padded[start + k * dilation] for k in range(kernel))
        for start in range(0, len(padded) - window + 1, stride)
    ]
    np.testing.assert_allclose(ours[0, 0], wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("stride", "pad", "extra"), [(1, 0, 0), (2, 1, 0), (2, 1, 1), (3, 2, 2)])
def test_transposed_convolution(stride, pad, extra):
    x, weight, bias = normal(1, 4, 5, 6), normal(4, 3, 4, 4), normal(6)
    theirs = functional.conv_transpose2d(
        *map(torch.from_numpy, (x, weight, bias)), stride=stride, padding=pad, output_padding=extra, groups=2
    )
    ours = interpreted(
        "conv_transpose",
        {"x": x},
        weight=weight,
        bias=bias,
        strides=[stride] * 2,
        pad_type="custom",
        pad=[pad] * 4,
        groups=2,
        **({"output_shape": list(theirs.shape)} if extra else {}),
    )[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride", "pad"), [(2, 2, 0), (3, 2, 1), (3, 1, 1), (3, 3, 0)])
@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("exclude", [False, True])
def test_pools(kernel, stride, pad, ceil, exclude):
    x = normal(2, 3, 8, 7)
    attributes = {
        "kernel_sizes": [kernel] * 2,
        "strides": [stride] * 2,
        "pad_type": "custom",
        "pad": [pad] * 4,
        "ceil_mode": ceil,
    }
    mean = interpreted("avg_pool", {"x": x}, exclude_padding_from_average=exclude, **attributes)[0]
    largest = interpreted("max_pool", {"x": x}, **attributes)[0]
    value = torch.from_numpy(x)
    theirs = functional.avg_pool2d(value, kernel, stride, pad, ceil, not exclude)
    np.testing.assert_allclose(mean, theirs, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(largest, functional.max_pool2d(value, kernel, stride, pad, ceil_mode=ceil))


def test_pool_with_padding_on_one_side():
    x = normal(1, 2, 5)
    attributes = {"kernel_sizes": [3], "strides": [2], "pad_type": "custom", "pad": [0, 2]}
    ours = interpreted("max_pool", {"x": x}, **attributes)[0]
    padded = np.pad(x, ((0, 0), (0, 0), (0, 2)), constant_values=-np.inf)
    np.testing.assert_array_equal(ours, np.stack([padded[..., s : s + 3].max(-1) for s in (0, 2, 4)], -1))
    mean = interpreted("avg_pool", {"x": x}, exclude_padding_from_average=True, **attributes)[0]
    np.testing.assert_allclose(
        mean, np.stack([x[..., s : s + 3].mean(-1) for s in (0, 2, 4)], -1), rtol=1e-5, atol=1e-6
    )
    root = interpreted("l2_pool", {"x": x}, kernel_sizes=[3], pad_type="valid")[0]
    theirs = np.stack([np.sqrt((x[..., s : s + 3] ** 2).sum(-1)) for s in range(3)], -1)
    np.testing.assert_allclose(root, theirs, rtol=1e-5)


def test_normalizations():
    value = torch.from_numpy(X)
    mean, variance, gamma, beta = normal(3), np.abs(normal(3, seed=1)) + 0.1, normal(3), normal(3, seed=2)
    ours = interpreted(
        "batch_norm", {"x": X}, mean=mean, variance=variance, gamma=gamma, beta=beta, epsilon=0.01
    )[0]
    theirs = functional.batch_norm(value, *map(torch.from_numpy, (mean, variance, gamma, beta)), eps=0.01)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    ours = interpreted("batch_norm", {"x": X}, mean=mean, variance=variance)[0]
    np.testing.assert_allclose(
        ours, functional.batch_norm(value, *map(torch.from_numpy, (mean, variance))), rtol=1e-4, atol=1e-5
    )
    ours = interpreted("instance_norm", {"x": X}, gamma=gamma, beta=beta, epsilon=0.01)[0]
    theirs = functional.instance_norm(
        value, weight=torch.from_numpy(gamma), bias=torch.from_numpy(beta), eps=0.01
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    ours = interpreted("local_response_norm", {"x": X}, size=3, alpha=0.1, beta=0.6, k=2.0)[0]
    theirs = functional.local_response_norm(value, 3, 0.1, 0.6, 2.0)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_products_and_attention():
    x, y = normal(2, 3, 4, 5), normal(2, 5, 4, 6)
    ours = call("einsum", values=tuple(map(torch.from_numpy, (x, y))), equation="nchw,nwhu->nchu")
    np.testing.assert_allclose(ours, np.einsum("nchw,nwhu->nchu", x, y), rtol=1e-4, atol=1e-5)
    q, k, v = (normal(2, 4, 6, 8, seed=seed) for seed in range(3))
    mask = normal(6, 6) > 0
    mask[:, 0] = True
    for given_mask in (None, mask, normal(6, 6)):
        extra = {} if given_mask is None else {"attn_mask": given_mask}
        ours = interpreted(
            "scaled_dot_product_attention", {"query": q, "key": k, "value": v, **extra}, opset="iOS18"
        )[0]
        theirs = functional.scaled_dot_product_attention(
            *map(torch.from_numpy, (q, k, v)),
            attn_mask=None if given_mask is None else torch.from_numpy(given_mask),
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_silu():
    ours = interpreted("silu", {"x": X})[0]
    np.testing.assert_allclose(ours, functional.silu(torch.from_numpy(X)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(8, 10), (3, 4), (9, 7), (1, 1)])
def test_resize_by_pytorchs_two_conventions(size):
    value, target = torch.from_numpy(X), {"target_size_height": size[0], "target_size_width": size[1]}
    for mode, align in (("UNALIGN_CORNERS", False), ("STRICT_ALIGN_CORNERS", True)):
        ours = interpreted("resize_bilinear", {"x": X}, sampling_mode=mode, **target)[0]
        theirs = functional.interpolate(value, size=size, mode="bilinear", align_corners=align)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        resized = interpreted(
            "resize", {"x": X}, shape=np.int32(size), resized_dims=np.uint32(2), sampling_mode=mode
        )[0]
        np.testing.assert_array_equal(ours, resized)
    ours = interpreted("resize_nearest_neighbor", {"x": X}, **target)[0]
    np.testing.assert_array_equal(ours, functional.interpolate(value, size=size, mode="nearest"))


@pytest.mark.parametrize(
    ("mode", "count", "places"),
    [
        ("UNALIGN_CORNERS", 5, [0, 0.1, 0.5, 0.9, 1]),
        ("STRICT_ALIGN_CORNERS", 5, [0, 0.25, 0.5, 0.75, 1]),
        ("ALIGN_CORNERS", 1, [0.5]),
        ("DEFAULT", 5, [0, 0.4, 0.8, 1, 1]),
        ("OFFSET_CORNERS", 5, [0.1, 0.3, 0.5, 0.7, 0.9]),
        ("OFFSET_CORNERS", 6, [1 / 12, 0.25, 5 / 12, 7 / 12, 0.75, 11 / 12]),
    ],
)
def test_sampling_grids_are_those_of_the_reference(mode, count, places):
    """The examples of coremltools' reference for a side from 0 to 1."""
    x = np.float32([[[0, 1]]])
    ours = interpreted(
        "resize_bilinear", {"x": x}, target_size_height=1, target_size_width=count, sampling_mode=mode
    )[0]
    np.testing.assert_allclose(ours[0, 0], places, atol=1e-6)


@pytest.mark.parametrize("scale", [2, 3, 1.5])
def test_upsampling(scale):
    value, factors = torch.from_numpy(X), {"scale_factor_height": scale, "scale_factor_width": scale}
    for align in (False, True):
        ours = interpreted("upsample_bilinear", {"x": X}, align_corners=align, **factors)[0]
        theirs = functional.interpolate(
            value, scale_factor=scale, mode="bilinear", align_corners=align, recompute_scale_factor=True
        )
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    if isinstance(scale, int):
        ours = interpreted("upsample_nearest_neighbor", {"x": X}, **factors)[0]
        np.testing.assert_array_equal(ours, X.repeat(scale, 2).repeat(scale, 3))


def test_pixels_shuffled():
    x = normal(1, 8, 2, 3)
    value = torch.from_numpy(x)
    shuffled = interpreted("pixel_shuffle", {"x": x}, upscale_factor=2)[0]
    np.testing.assert_array_equal(shuffled, functional.pixel_shuffle(value, 2))
    back = interpreted("pixel_unshuffle", {"x": shuffled}, downscale_factor=np.uint32(2))[0]
    np.testing.assert_array_equal(back, x)


def test_made_from_numbers():
    assert call("fill", shape=torch.tensor([2, 2]), value=torch.tensor(1.5)).tolist() == [[1.5, 1.5]] * 2
    steps = {name: torch.tensor(value) for name, value in (("start", 1), ("end", 7), ("step", 3))}
    assert call("range_1d", **steps).tolist() == [1, 4]
    windows = interpreted("sliding_windows", {"x": X}, axis=3, size=3, stride=2)[0]
    np.testing.assert_array_equal(windows, np.stack([X[..., 0:3], X[..., 2:5]], 3))


def test_topk():
    values, places = interpreted("topk", {"x": X}, k=2, axis=-1)
    np.testing.assert_array_equal(values, np.sort(X, -1)[..., ::-1][..., :2])
    np.testing.assert_array_equal(np.take_along_axis(X, places.astype(int), -1), values)
    least = interpreted("topk", {"x": X}, k=1, axis=1, ascending=True)[0]
    np.testing.assert_array_equal(least, X.min(1, keepdims=True))


@pytest.mark.parametrize(
    ("op", "arguments", "words"),
    [
        (
            "conv",
            {"x": torch.ones(1, 1, 4), "weight": torch.ones(1, 1, 3), "pad_type": "full"},
            "pad_type='full'",
        ),
        ("gelu", {"x": torch.ones(1), "mode": "FAST"}, "mode='FAST'"),
        ("pad", {"x": torch.ones(2), "pad": torch.tensor([1, 1]), "mode": "wrap"}, "mode='wrap'"),
        ("cast", {"x": torch.ones(1), "dtype": "complex64"}, "dtype='complex64'"),
        ("resize_bilinear", {"x": torch.ones(1, 2, 2), "sampling_mode": "BEST"}, "sampling_mode='BEST'"),
        ("gather", {"x": torch.ones(3), "indices": torch.tensor([3])}, "outside of the 3 places"),
        ("real_div", {"x": torch.tensor([1]), "y": torch.tensor([2])}, "integers"),
        ("reshape", {"x": torch.ones(2, 3), "shape": torch.tensor([0])}, "keeps sides"),
        ("relu", {}, "x is missing"),
        ("softmax", {"x": torch.ones(2), "axis": torch.tensor([0, 1])}, "2 values"),
    ],
)
def test_unknown_settings_are_refused_by_name(op, arguments, words):
    with pytest.raises(UnsupportedOpError, match=words) as refused:
        call(op, **arguments)
    assert f"{op} 'made'" in str(refused.value)


def test_every_operator_is_tested():
    """By the table above, by a test of its own, or as a weight's form in test_mil_weights.py."""
    text = Path(__file__).read_text()
    tested = {op for op, _, _ in INFERRED}
    known = [op for op in OPS if not op.startswith("constexpr_")]
    assert [op for op in known if op not in tested and f'"{op}"' not in text] == []
