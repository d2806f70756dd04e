"""The runtime options of every backend: what each may be, and what it is where nobody sets it.

Planning refuses by this table what a runner would refuse, and runners read their own options by it. No
runtime is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.spec import Option


class OptionError(ValueError):
    """An option that a backend does not have, or a value that it cannot be; `advice` says what it may be."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


@dataclass(frozen=True, slots=True)
class RuntimeOption:
    """`default` has the type that a value must have; an empty word leaves it to the runtime.

    `choices` are the words that it may be, `least` and `most` the range of a whole number. Another value than
    the default needs one of `devices`, where they are named, and excludes other values than the defaults of
    the options named in `excludes`.
    """

    default: Option
    meaning: str
    choices: tuple[str, ...] = ()
    least: int = 0
    most: int = 0
    devices: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """In words: `true or false`, `a whole number from 1 to 64`, `one of spin, block`."""
        if isinstance(self.default, bool):
            return "true or false"
        if isinstance(self.default, int):
            return f"a whole number from {self.least} to {self.most}"
        return f"one of {', '.join(self.choices)}"

    def read(self, name: str, value: Option) -> Option:
        """The value in the option's type; a word may stand for it. Raises OptionError."""
        word = str(value).lower() if isinstance(value, bool) else str(value)
        if isinstance(self.default, bool):
            if word in ("true", "false"):
                return word == "true"
        elif isinstance(self.default, int):
            if word.isascii() and word.isdigit() and self.least <= int(word) <= self.most:
                return int(word)
        elif word in self.choices or word == self.default:
            return word
        raise OptionError(f"runtime option {name}={word} takes {self.allowed}", f"Give {self.allowed}.")


_CUDA_GRAPH = RuntimeOption(False, "replay a captured CUDA graph", devices=("cuda",))
_SWITCH = ("true", "false")

OPTIONS: Mapping[str, Mapping[str, RuntimeOption]] = {
    "torch": {"cuda_graph": _CUDA_GRAPH},
    "torch-compile": {"cuda_graph": _CUDA_GRAPH},
    "onnxruntime": {
        # The runtime's own default: workers spin between inferences. With one thread there are no workers.
        "allow_spinning": RuntimeOption(True, "workers spin between inferences"),
        "graph_optimization": RuntimeOption(
            "all", "the level of the runtime's own rewriting", ("disable", "basic", "extended", "all")
        ),
    },
    "openvino": {
        "ENABLE_CPU_PINNING": RuntimeOption("", "threads stay on their cores", _SWITCH),
        "ENABLE_HYPER_THREADING": RuntimeOption("", "two threads may share a core", _SWITCH),
    },
    "trt": {
        "cuda_graph": _CUDA_GRAPH,
        "transfers": RuntimeOption(
            "none", "copy inputs and outputs with every inference", ("none", "both"), excludes=("streams",)
        ),
        "streams": RuntimeOption(1, "contexts side by side: throughput, not latency", least=1, most=64),
        "sync": RuntimeOption("spin", "how the host waits", ("spin", "block")),
        "cuda_binding": RuntimeOption(
            "", "which CUDA binding, where both are there", ("cuda-bindings", "pycuda")
        ),
    },
    "null": {"sleep_ns": RuntimeOption(0, "sleep so long instead of doing nothing", most=10**12)},
}


def read(
    options: Mapping[str, RuntimeOption], given: Mapping[str, Option], *, device: str
) -> dict[str, Option]:
    """Every option of a backend with its value, `given` or else its default, on a kind of device (`cpu`).

    Raises OptionError for an unknown name, a value that an option cannot be, one that the device does not
    have, and two that exclude each other.
    """
    for name in given:
        if name not in options:
            raise _unknown(name, options)
    found = {name: option.default for name, option in options.items()}
    found |= {name: options[name].read(name, value) for name, value in given.items()}
    changed = [name for name, option in options.items() if found[name] != option.default]
    for name in changed:
        option, word = options[name], str(found[name]).lower()
        if option.devices and device not in option.devices:
            needed = " or ".join(option.devices)
            raise OptionError(
                f"runtime option {name}={word} is for device {needed}, not for '{device}'",
                f"Ask for device {needed}, or leave out {name}.",
            )
        for other in (other for other in option.excludes if other in changed):
            raise OptionError(
                f"runtime options {name}={word} and {other}={found[other]} exclude each other",
                f"Leave out {name} or {other}.",
            )
    return found


def _unknown(name: str, options: Mapping[str, RuntimeOption]) -> OptionError:
    from models.tables import suggest  # it imports difflib, which no measuring process should wait for

    known = suggest(name, options) if options else "it has none"
    return OptionError(f"no runtime option '{name}': {known}", f"Leave out {name}, or correct its name.")
