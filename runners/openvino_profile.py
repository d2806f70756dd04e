"""OpenVINO's profile by layer: a compiled model of its own, since counters are a property of compilation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import openvino as ov

from runners.layer_profile import WARM_UP, Pass, repeat, typical
from runners.runner import HOST_CLOCK

NOT_RUN = ov.ProfilingInfo.Status.NOT_RUN
WITHOUT_BIASES = "/WithoutBiases"  # what the front end calls a convolution before its bias is added


def profile(compiled: Any, tensors: Sequence[Any]) -> dict[str, int]:
    """Nanoseconds of one inference by layer (`Convolution: /stem/stem.0/conv/Conv + /stem/stem.0/act/Relu`).

    `compiled` has its counters on. Raises RunnerError `infer` where layers differ between inferences.
    """
    names = _names(compiled)
    request = compiled.create_infer_request()
    passes: list[Pass] = []

    def infer(index: int) -> None:
        request.set_input_tensor(tensors[index])
        begun_ns = HOST_CLOCK()
        request.infer(share_outputs=True)
        total_ns = HOST_CLOCK() - begun_ns
        passes.append(Pass(total_ns, _layers(request.get_profiling_info(), names)))

    repeat(infer, len(tensors))
    return typical(passes[WARM_UP:])


def _names(compiled: Any) -> dict[str, str]:
    """A layer of the executed graph to the layers of the file that it does the work of."""
    infos = {node.get_friendly_name(): node.get_rt_info() for node in compiled.get_runtime_model().get_ops()}
    return {name: original_names(info["originalLayersNames"].astype(str)) for name, info in infos.items()}


def original_names(text: str) -> str:
    """`/stem/conv/Conv + /stem/act/Relu` of `/stem/conv/Conv/WithoutBiases,Multiply_4,/stem/act/Relu`.

    Names that hold no module's path are left out, where others do.
    """
    names = list(dict.fromkeys(name.removesuffix(WITHOUT_BIASES) for name in text.split(",") if name))
    return " + ".join([name for name in names if name.startswith("/")] or names)


def _layers(infos: Sequence[Any], names: Mapping[str, str]) -> dict[str, int]:
    """Layers that were put in between others have no original: they are named by type and place."""
    found: dict[str, int] = {}
    for place, info in enumerate(infos):
        if info.status == NOT_RUN:
            continue
        name = f"{info.node_type}: {names.get(info.node_name) or f'{info.node_type} {place}'}"
        found[name] = found.get(name, 0) + info.real_time // timedelta(microseconds=1) * 1000
    return found
