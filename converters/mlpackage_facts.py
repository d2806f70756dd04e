"""What a Core ML package says of itself: inputs, precision, compression, operators, and who can load it.

All is read back from the file, of this project's packages and of others'; nothing is taken from a request.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.artifact import TensorInfo
from converters.mil_load import Package, PackageError, opened
from models.spec import Option

# Where the program's metadata has the module path by operator output, as JSON.
MODULES = "deploybench.modules"

# The oldest system that loads a specification; each is of the same year as a macOS.
NEEDS = {6: "iOS15", 7: "iOS16", 8: "iOS17", 9: "iOS18", 10: "iOS26"}

# Operators that hold compressed weights, by what they do.
COMPRESSIONS = {
    "constexpr_affine_dequantize": "linear",
    "constexpr_blockwise_shift_scale": "linear",
    "constexpr_lut_to_dense": "palette",
    "constexpr_sparse_to_dense": "sparse",
    "constexpr_lut_to_sparse": "palette, sparse",
    "constexpr_sparse_blockwise_shift_scale": "linear, sparse",
    "constexpr_cast": "cast",
}
# Operators that do nearly all of a network's arithmetic: their types say what it is computed in.
COMPUTE = ("conv", "conv_transpose", "linear", "matmul", "einsum", "scaled_dot_product_attention")

_DTYPES = {
    "FLOAT16": "float16",
    "FLOAT32": "float32",
    "FLOAT64": "float64",
    "DOUBLE": "float64",
    "INT32": "int32",
    "INT8": "int8",
    "UINT8": "uint8",
    "INT16": "int16",
    "UINT16": "uint16",
    "BOOL": "bool",
}
_SHORT = {"float16": "fp16", "float32": "fp32"}


@dataclass(frozen=True, slots=True)
class PackageFacts:
    """`precision` is `fp16`, `fp32` or `mixed`, from what convolutions and products put out.

    An open side is -1 in a shape; `alternatives` are the shapes that an input lists. `op_counts` leaves
    constants and their decompression out; `compressions` counts weights by kind; `weight_bits` is the mean
    number of stored bits per weight; `needs` is the oldest iOS by specification (`iOS16`); `modules` the
    module path by operator output where the package tells it; `batch_norms` are the outputs of operators of
    that type, without those that are the scale of another normalization.
    """

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    input_kind: str  # "tensor" or "image"
    alternatives: tuple[tuple[int, ...], ...]
    precision: str
    compressions: Mapping[str, int]
    weight_bits: float
    op_counts: Mapping[str, int]
    specification_version: int
    needs: str
    size_bytes: int
    modules: Mapping[str, str]
    batch_norms: tuple[str, ...] = ()

    def facts(self) -> dict[str, Option]:
        """The figures that an artifact keeps."""
        return {
            "specification_version": self.specification_version,
            "needs": self.needs,
            "package_bytes": self.size_bytes,
            "operators": sum(self.op_counts.values()),
            "weight_bits": self.weight_bits,
            "computes": self.precision,
            "input_kind": self.input_kind,
        }


def describe(path: Path) -> PackageFacts:
    """The facts of a package, a folder or a ZIP of one, which may come from anywhere.

    Raises PackageError for what is no ML program or breaks a limit of `converters.mil_load`.
    """
    with opened(path) as package:
        return of_package(package)


def of_package(package: Package) -> PackageFacts:
    """The facts of a package that is open already. Raises PackageError."""
    spec = package.specification
    operations = list(_operations(_main(package)))
    counts = Counter(operation.type for operation in operations)
    inputs = spec.description.input
    return PackageFacts(
        inputs=tuple(_info(value) for value in inputs),
        outputs=tuple(_output(value, operations) for value in spec.description.output),
        input_kind="image" if any(v.type.WhichOneof("Type") == "imageType" for v in inputs) else "tensor",
        alternatives=tuple(shape for value in inputs for shape in _alternatives(value)),
        precision=_precision(operations),
        compressions=_compressions(counts),
        weight_bits=_weight_bits(operations, package.weights),
        op_counts={
            kind: count
            for kind, count in sorted(counts.items())
            if kind != "const" and not kind.startswith("constexpr_")
        },
        specification_version=package.version,
        needs=NEEDS.get(package.version, f"a system that loads specification {package.version}"),
        size_bytes=package.size_bytes,
        modules=_modules(spec),
        batch_norms=_batch_norms(operations),
    )


def _main(package: Package) -> Any:
    """The block of operations that is run. Raises PackageError where there is none."""
    spec = package.specification
    kind = spec.WhichOneof("Type")
    if kind != "mlProgram":
        raise PackageError(f"{package.path} holds a model of type '{kind}', not an ML program")
    name = spec.description.defaultFunctionName or "main"
    functions = spec.mlProgram.functions  # reading a name that is not there would add it
    blocks = [*functions[name].block_specializations.values()] if name in functions else []
    if len(blocks) != 1:
        raise PackageError(f"{package.path}: function '{name}' has {len(blocks)} blocks; one is expected")
    return blocks[0]


def _operations(block: Any) -> Iterator[Any]:
    waiting = [block]
    while waiting:
        for operation in waiting.pop().operations:
            yield operation
            waiting.extend(operation.blocks)


def _batch_norms(operations: list[Any]) -> tuple[str, ...]:
    """coremltools writes scale and shift of a GroupNorm as a batch_norm too.

    What that reads is a quotient, by the deviation within groups, in the shape that it had before.
    """
    makers = {output.name: op for op in operations for output in op.outputs}

    def maker(operation: Any) -> Any:
        arguments = list(operation.inputs["x"].arguments) if "x" in operation.inputs else []
        return makers.get(arguments[0].name) if len(arguments) == 1 else None

    found = []
    for op in operations:
        if op.type == "batch_norm" and op.outputs:
            before = maker(op)
            divided = maker(before) if before is not None and before.type == "reshape" else None
            if divided is None or divided.type != "real_div":
                found.append(op.outputs[0].name)
    return tuple(found)


def _info(value: Any) -> TensorInfo:
    """An input of the model's description; images as the tensor (1, C, H, W) of bytes."""
    if value.type.WhichOneof("Type") == "imageType":
        image = value.type.imageType
        known = image.colorSpace in image.ColorSpace.values()
        space = image.ColorSpace.Name(image.colorSpace) if known else ""
        channels = 1 if space.startswith("GRAYSCALE") else 3
        dtype = "float16" if space.endswith("FLOAT16") else "uint8"
        return TensorInfo(value.name, dtype, (1, channels, int(image.height), int(image.width)))
    array = value.type.multiArrayType
    sides = [int(side) for side in array.shape]
    for axis, bound in enumerate(array.shapeRange.sizeRanges):
        if axis < len(sides) and bound.lowerBound != bound.upperBound:
            sides[axis] = -1
    for shape in array.enumeratedShapes.shapes:
        sides = [a if a == b else -1 for a, b in zip(sides, shape.shape, strict=False)]
    return TensorInfo(value.name, _array_dtype(array), tuple(sides))


def _alternatives(value: Any) -> Iterator[tuple[int, ...]]:
    if value.type.WhichOneof("Type") == "imageType":
        for size in value.type.imageType.enumeratedSizes.sizes:
            yield (1, 3, int(size.height), int(size.width))
        return
    for shape in value.type.multiArrayType.enumeratedShapes.shapes:
        yield tuple(int(side) for side in shape.shape)


def _output(value: Any, operations: list[Any]) -> TensorInfo:
    """Name and type as described; the shape is the program's, since the description may leave it out."""
    array = value.type.multiArrayType
    shape = tuple(int(side) for side in array.shape)
    for operation in operations:
        for output in operation.outputs:
            if output.name == value.name and output.type.WhichOneof("type") == "tensorType":
                shape = tuple(_side(side) for side in output.type.tensorType.dimensions)
    return TensorInfo(value.name, _array_dtype(array), shape)


def _side(dimension: Any) -> int:
    return int(dimension.constant.size) if dimension.WhichOneof("dimension") == "constant" else -1


def _array_dtype(array: Any) -> str:
    known = array.dataType in array.ArrayDataType.values()  # a foreign file may hold any number
    return _DTYPES.get(array.ArrayDataType.Name(array.dataType), "unknown") if known else "unknown"


def _dtype(output: Any) -> str:
    """NumPy's name of what an operator puts out; empty for what is no tensor."""
    from coremltools import proto

    if output.type.WhichOneof("type") != "tensorType":
        return ""
    return _DTYPES.get(proto.MIL_pb2.DataType.Name(output.type.tensorType.dataType), "")


def _precision(operations: list[Any]) -> str:
    """`fp16` where all that computes is; other operators count where a program has no convolution at all."""
    counted = [op for op in operations if op.type in COMPUTE] or [
        op for op in operations if op.type not in ("const", "cast") and not op.type.startswith("constexpr_")
    ]
    found = {_SHORT.get(_dtype(output), "") for op in counted for output in op.outputs} - {""}
    return found.pop() if len(found) == 1 else "mixed" if found else "none"


def _compressions(counts: Mapping[str, int]) -> dict[str, int]:
    found: Counter[str] = Counter()
    for kind, count in counts.items():
        if kind.startswith("constexpr_"):
            found[COMPRESSIONS.get(kind, kind)] += count
    return dict(sorted(found.items()))


def _weight_bits(operations: list[Any], weights: Path) -> float:
    """Bits in the files of weights per element of the tensors that come from them; one decimal."""
    elements = 0
    for operation in operations:
        stored = operation.type.startswith("constexpr_") or (
            operation.type == "const" and operation.attributes["val"].WhichOneof("value") == "blobFileValue"
        )
        if stored and operation.outputs:
            elements += math.prod(_side(side) for side in operation.outputs[0].type.tensorType.dimensions)
    size = sum(path.stat().st_size for path in weights.rglob("*") if path.is_file()) if elements else 0
    return round(8 * size / elements, 1) if elements else 0.0


def _modules(spec: Any) -> dict[str, str]:
    """The map that this project writes; empty where there is none or what is there is no such map."""
    try:
        value = json.loads(spec.description.metadata.userDefined.get(MODULES, "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        return {}
    return value
