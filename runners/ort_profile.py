"""ONNX Runtime's profile by node: a session of its own, since profiling is an option of the session.

The runtime writes its events to a file, in whole microseconds. A node that was fused keeps the name of its
first node or of its last output; one that the optimizer put in has a name of the optimizer's own.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnxruntime as ort

from runners.layer_profile import WARM_UP, Pass, repeat, typical
from runners.runner import Array, RunnerError

# What the optimizer appends to the name of a node or of an output, and what the profiler does.
ADDED = re.compile(r"(?:/{1,2}\w+Fusion/?|_nchwc|_token_\d+|_output_\d+)+$")
KERNEL = "_kernel_time"


def profile(
    artifact: Path, options: Any, provider: str, feeds: Sequence[Mapping[str, Array]]
) -> dict[str, int]:
    """Nanoseconds of one inference by layer (`Conv: /stem/stem.0/act/Relu`), in order of execution.

    `options` are those of the timed session; they are changed here. Raises RunnerError `infer` where the
    session or its file of events is not as expected.
    """
    with tempfile.TemporaryDirectory(prefix="ort-profile-") as folder:
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "events")
        session = ort.InferenceSession(str(artifact), options, providers=[provider])
        repeat(lambda index: session.run(None, feeds[index]), len(feeds))
        try:
            events = json.loads(Path(session.end_profiling()).read_bytes())
        except (OSError, ValueError) as error:
            raise RunnerError("infer", f"ONNX Runtime's profile cannot be read: {error}") from error
    return typical(passes(events)[WARM_UP:])


def passes(events: Iterable[Mapping[str, Any]]) -> list[Pass]:
    """One for every inference: the runtime notes an inference itself after all of its nodes."""
    found: list[Pass] = []
    nodes: dict[str, int] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(KERNEL):
            name = layer_name(str(event["args"]["op_name"]), event["name"].removesuffix(KERNEL), nodes)
            nodes[name] = nodes.get(name, 0) + 1000 * int(event["dur"])
        elif event.get("name") == "model_run":
            found.append(Pass(1000 * int(event["dur"]), nodes))
            nodes = {}
    return found


def layer_name(operator: str, node: str, taken: Iterable[str] = ()) -> str:
    """`Conv: /stem/stem.0/act/Relu` of the node `/stem/stem.0/act/Relu_output_0_nchwc`.

    A node without a module's path keeps its own name, and so does one whose short name is `taken`.
    """
    short = f"{operator}: {ADDED.sub('', node) if node.startswith('/') else node}"
    return f"{operator}: {node}" if short in taken else short
