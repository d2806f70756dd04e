"""What stands in a journal entry, kind by kind: the facts of a phone, a load, a round, a placement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from device_agents.forms import SHA256, Form, FormError, whole
from device_agents.job import MAX_SAMPLES, Tensor, plain
from device_agents.journal import Entry
from device_agents.problems import PROBLEMS

STAGES = ("compile", "load", "placement", "outputs", "round")
THERMAL_STATES = ("nominal", "fair", "serious", "critical", "unknown")
PLACES = ("neural_engine", "gpu", "cpu", "unknown")
MAX_OPERATIONS = 100_000
MAX_OUTPUT_BYTES = 1 << 30
NOT_KNOWN = -1


@dataclass(frozen=True, slots=True)
class Conditions:
    """Readings before and after a round. -1 is not known; `battery_permille` of a full charge."""

    thermal_state: str
    battery_permille: int
    charging: bool
    low_power_mode: bool
    memory_bytes: int
    available_memory_bytes: int

    @staticmethod
    def of(form: Form) -> Conditions:
        return Conditions(
            form.one_of("thermal_state", THERMAL_STATES),
            form.integer("battery_permille", NOT_KNOWN, 1000),
            form.boolean("charging"),
            form.boolean("low_power_mode"),
            form.integer("memory_bytes", NOT_KNOWN),
            form.integer("available_memory_bytes", NOT_KNOWN),
        )


@dataclass(frozen=True, slots=True)
class Received:
    """The first entry: which device and agent; no serial number, name or identifier of it."""

    agent: str
    device_model: str
    os: str
    os_build: str
    runtime: str

    @staticmethod
    def of(form: Form) -> Received:
        names = ("agent", "device_model", "os", "os_build", "runtime")
        return Received(*(form.text(name, most=128) for name in names))


@dataclass(frozen=True, slots=True)
class Begin:
    """A step is about to start; without the entry that ends it, the app died there."""

    stage: str
    round_index: int
    available_memory_bytes: int

    @staticmethod
    def of(form: Form) -> Begin:
        return Begin(
            form.one_of("stage", STAGES),
            form.integer("round_index", NOT_KNOWN),
            form.integer("available_memory_bytes", NOT_KNOWN),
        )


@dataclass(frozen=True, slots=True)
class Compiled:
    duration_ns: int

    @staticmethod
    def of(form: Form) -> Compiled:
        return Compiled(form.integer("duration_ns", 1))


@dataclass(frozen=True, slots=True)
class Loaded:
    """`cold` is the first load after compiling: the accelerator's own compiler runs in it."""

    cold: bool
    duration_ns: int

    @staticmethod
    def of(form: Form) -> Loaded:
        return Loaded(form.boolean("cold"), form.integer("duration_ns", 1))


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of the compute plan. `cost_ppb` is the share of the whole that Core ML estimates, never
    a measured time; -1 where the plan has none (constants)."""

    name: str
    operator: str
    preferred: str
    supported: tuple[str, ...]
    cost_ppb: int

    @staticmethod
    def of(form: Form) -> Operation:
        supported = form.texts("supported", most=len(PLACES))
        if not set(supported) <= set(PLACES):
            raise FormError(f"operation: supported {supported} is not out of {', '.join(PLACES)}")
        return Operation(
            form.text("name", most=512),
            form.text("operator", most=128),
            form.one_of("preferred", PLACES),
            supported,
            form.integer("cost_ppb", NOT_KNOWN, 1_000_000_000),
        )


@dataclass(frozen=True, slots=True)
class Placement:
    operations: tuple[Operation, ...]

    @staticmethod
    def of(form: Form) -> Placement:
        return Placement(form.forms("operations", Operation.of, most=MAX_OPERATIONS))


@dataclass(frozen=True, slots=True)
class Outputs:
    """`outputs.bin` beside the journal, laid out as the inputs are."""

    sha256: str
    size_bytes: int
    sets: int
    tensors: tuple[Tensor, ...]

    @staticmethod
    def of(form: Form) -> Outputs:
        made = Outputs(
            form.text("sha256", SHA256),
            form.integer("size_bytes", 1, MAX_OUTPUT_BYTES),
            form.integer("sets", 1, 64),
            form.forms("tensors", Tensor.of, most=16),
        )
        if made.size_bytes != made.sets * sum(tensor.size_bytes for tensor in made.tensors):
            raise FormError(
                f"outputs: {made.size_bytes} bytes are not {made.sets} sets of the tensors listed"
            )
        return made


@dataclass(frozen=True, slots=True)
class RoundTaken:
    """Raw samples in order, each the nanoseconds of `loop_count` predictions."""

    round_index: int
    loop_count: int
    steady: bool
    started_at_ns: int
    warmup_span_ns: int
    timed_span_ns: int
    samples_ns: tuple[int, ...]
    warmup_ns: tuple[int, ...]
    before: Conditions
    after: Conditions

    @staticmethod
    def of(form: Form) -> RoundTaken:
        made = RoundTaken(
            form.integer("round_index"),
            form.integer("loop_count", 1, 1 << 20),
            form.boolean("steady"),
            form.integer("started_at_ns"),
            form.integer("warmup_span_ns"),
            form.integer("timed_span_ns"),
            form.integers("samples_ns", most=MAX_SAMPLES, least=1),
            form.integers("warmup_ns", most=2 * MAX_SAMPLES, least=1),
            form.form("before", Conditions.of),
            form.form("after", Conditions.of),
        )
        if not made.samples_ns:
            raise FormError("round: holds no sample")
        return made


@dataclass(frozen=True, slots=True)
class Closed:
    """The app ended as it was told to: the host starts it again for what is left."""

    rounds_left: int

    @staticmethod
    def of(form: Form) -> Closed:
        return Closed(form.integer("rounds_left", 1))


@dataclass(frozen=True, slots=True)
class Finished:
    rounds: int

    @staticmethod
    def of(form: Form) -> Finished:
        return Finished(form.integer("rounds", 1))


@dataclass(frozen=True, slots=True)
class Failed:
    """`problem` is a name of problems.PROBLEMS; `message` the system's own words."""

    problem: str
    stage: str
    message: str

    @staticmethod
    def of(form: Form) -> Failed:
        return Failed(
            form.one_of("problem", tuple(PROBLEMS)),
            form.one_of("stage", ("job", *STAGES)),
            form.text("message"),
        )


Body = Received | Begin | Compiled | Loaded | Placement | Outputs | RoundTaken | Closed | Finished | Failed
_MAKERS: dict[str, Callable[[Form], Body]] = {
    "received": Received.of,
    "begin": Begin.of,
    "interrupted": Begin.of,
    "compiled": Compiled.of,
    "loaded": Loaded.of,
    "placement": Placement.of,
    "outputs": Outputs.of,
    "round": RoundTaken.of,
    "closed": Closed.of,
    "finished": Finished.of,
    "failed": Failed.of,
}


def body_of(entry: Entry) -> Body:
    """The entry's facts, checked. Raises FormError."""
    return whole(entry.body, f"{entry.kind} (line {entry.sequence})", _MAKERS[entry.kind])


def as_table(body: Body) -> Mapping[str, Any]:
    """What a journal entry holds of it."""
    table: Mapping[str, Any] = plain(asdict(body))
    return table
