"""Compressed weights, against coremltools' own decompression and through packages that it compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from converters import mil_interpreter
from converters.mil_call import Call, UnsupportedOpError
from converters.mil_interpreter import OPS
from converters.quiet import captured
from tests.converters.mil_programs import converted, ct, normal

with captured():
    from coremltools.converters.mil.mil.ops.defs.iOS16 import constexpr_ops as ios16
    from coremltools.converters.mil.mil.ops.defs.iOS18 import compression as ios18
    from coremltools.optimize import coreml as optimize


def call(op: str, **arguments: Any) -> Any:
    tensors = {name: torch.from_numpy(np.asarray(value)) for name, value in arguments.items()}
    found = OPS[op](Call(op, "made", tensors))
    return [value.numpy() for value in found] if isinstance(found, tuple) else found.numpy()


def integers(*shape: int, low: int = 0, high: int = 256, dtype: type = np.uint8) -> Any:
    return np.random.default_rng(0).integers(low, high, shape).astype(dtype)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("vector", [False, True])
def test_affine(axis, vector):
    data = integers(4, 5, 6, low=-128, high=128, dtype=np.int8)
    scale = np.abs(normal(data.shape[axis])) if vector else np.float32(0.1)
    zero_point = integers(data.shape[axis], low=-9, high=9, dtype=np.int8) if vector else np.int8(-3)
    ours = call(
        "constexpr_affine_dequantize", quantized_data=data, scale=scale, zero_point=zero_point, axis=axis
    )
    theirs = ios16.constexpr_affine_dequantize.decompress(data, zero_point, scale, axis)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_palettes_of_packed_bits(bits):
    lut, shape = normal(2**bits), (3, 5, 7)
    packed = integers(-(-bits * 105 // 8))
    ours = call("constexpr_lut_to_dense", indices=packed, lut=lut, shape=np.array(shape))
    np.testing.assert_array_equal(ours, ios16.constexpr_lut_to_dense.decompress(lut, packed, np.array(shape)))


def test_sparse_of_packed_bits():
    mask = integers(14)
    mask[-1] &= 1  # 105 bits
    values = normal(int(np.unpackbits(mask).sum()))
    ours = call("constexpr_sparse_to_dense", nonzero_data=values, mask=mask, shape=np.array((3, 5, 7)))
    theirs = np.zeros(112, np.float32)
    theirs[np.unpackbits(mask, bitorder="little") != 0] = values
    np.testing.assert_array_equal(ours, theirs[:105].reshape(3, 5, 7))


@pytest.mark.parametrize("blocks", [(4, 6), (2, 3), (1, 1), (4, 1)])
@pytest.mark.parametrize("offset", [False, True])
def test_blocks(blocks, offset):
    data, scale = integers(4, 6, low=-8, high=8, dtype=np.int8), np.abs(normal(*blocks))
    extra = {"offset": integers(*blocks, low=-3, high=3, dtype=np.int8)} if offset else {}
    ours = call("constexpr_blockwise_shift_scale", data=data, scale=scale, **extra)
    theirs = ios18.constexpr_blockwise_shift_scale.decompress(data, scale, extra.get("offset"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize(
    ("tables", "vector", "axis"), [((1, 1), 1, None), ((2, 3), 1, None), ((1, 1), 2, 0), ((2, 1), 3, 1)]
)
def test_palettes_by_block(tables, vector, axis):
    indices, lut = integers(4, 6, high=16), normal(*tables, 16, vector)
    extra = {} if axis is None else {"vector_axis": axis}
    ours = call("constexpr_lut_to_dense", indices=indices, lut=lut, **extra)
    np.testing.assert_array_equal(ours, ios18.constexpr_lut_to_dense.decompress(indices, lut, axis))


def test_sparse_forms_of_ios18():
    mask, scale = integers(4, 6, high=2), np.abs(normal(2, 3))
    count = int(mask.sum())
    values = normal(count)
    dense = call("constexpr_sparse_to_dense", nonzero_data=values, mask=mask)
    np.testing.assert_array_equal(dense, ios18.constexpr_sparse_to_dense.decompress(values, mask))
    stored, offset = integers(count, low=-8, high=8, dtype=np.int8), integers(2, 3, high=3, dtype=np.int8)
    ours = call(
        "constexpr_sparse_blockwise_shift_scale",
        data_mask=mask,
        nonzero_data=stored,
        scale=scale,
        offset=offset,
    )
    theirs = ios18.constexpr_sparse_blockwise_shift_scale.decompress(mask, stored, scale, offset)
    for mine, value in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, value, rtol=1e-6)
    for vector, axis in ((1, None), (2, 1)):
        places, lut = integers(count, high=16), normal(1, 1, 16, vector)
        extra = {} if axis is None else {"vector_axis": axis}
        ours = call(
            "constexpr_lut_to_sparse", indices_mask=mask, indices_nonzero_data=places, lut=lut, **extra
        )
        theirs = ios18.constexpr_lut_to_sparse.decompress(mask, places, lut, axis)
        for mine, value in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(mine, value)
    np.testing.assert_array_equal(call("constexpr_cast", source_val=values), values)


def test_vectors_need_their_axis():
    with pytest.raises(UnsupportedOpError, match="vector_axis"):
        call("constexpr_lut_to_dense", indices=integers(4, 4, high=4), lut=normal(1, 1, 4, 2))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 64, 1))
    return converted(
        net, (1, 3, 8, 8), tmp_path_factory.mktemp("plain") / "plain.mlpackage", precision="fp32"
    )


OF_64 = {"weight_threshold": 64}
FORMS = {
    "linear": (optimize.linear_quantize_weights, optimize.OpLinearQuantizerConfig(**OF_64)),
    "palette": (optimize.palettize_weights, optimize.OpPalettizerConfig(mode="uniform", nbits=4, **OF_64)),
    "sparse": (optimize.prune_weights, optimize.OpMagnitudePrunerConfig(target_sparsity=0.5, **OF_64)),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_compressed_package_computes_with_its_decompressed_weights(plain, form, tmp_path):
    """The same network with the weights that coremltools itself decompresses."""
    with captured():
        compress, config = FORMS[form]
        whole = ct.models.MLModel(str(plain), skip_model_load=True)
        model = compress(whole, optimize.OptimizationConfig(config))
        model.save(str(tmp_path / "small.mlpackage"))
        optimize.decompress_weights(model).save(str(tmp_path / "again.mlpackage"))
    x = [normal(1, 3, 8, 8)]
    small, again, before = (
        mil_interpreter.run(path, x, rounding=False)[0]
        for path in (tmp_path / "small.mlpackage", tmp_path / "again.mlpackage", plain)
    )
    operators = [op.op_type for op in mil_interpreter.load(tmp_path / "small.mlpackage").function.operations]
    assert any(name.startswith("constexpr_") for name in operators)
    np.testing.assert_allclose(small, again, rtol=1e-4, atol=1e-5)
    assert np.abs(small - before).max() > 1e-4  # the weights were changed
