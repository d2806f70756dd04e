"""Writes what Python and Swift tests share: `python tests/device_agents/make_fixtures.py`.

A job, its files, the journal that the app writes for it on the simulated engine, and texts that both sides
must refuse. The files are checked in; a test compares them with what the code writes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FIXTURES = Path(__file__).parent / "fixtures"
if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from device_agents import app  # noqa: E402
from device_agents.archive import pack  # noqa: E402
from device_agents.forms import canonical  # noqa: E402
from device_agents.job import DeviceJob, DeviceTiming, InputFile, ModelFile, Tensor  # noqa: E402
from device_agents.mailbox import Orders  # noqa: E402
from device_agents.simulated_engine import SimulatedEngine  # noqa: E402

PACKAGE = {"Manifest.json": b'{"a": 1}\n', "Data/com.apple.CoreML/model.mlmodel": bytes(range(64))}


def shared_files() -> dict[str, bytes]:
    """Name -> content of every file in the mailbox before the app starts."""
    import hashlib

    import numpy as np

    model = pack(PACKAGE)
    inputs = np.linspace(-2, 2, 2 * 48, dtype="<f4").tobytes()
    job = DeviceJob(
        "00112233445566ff",
        ModelFile("model.zip", "mlpackage-zip", hashlib.sha256(model).hexdigest(), len(model), "16.0"),
        InputFile(
            "inputs.bin",
            hashlib.sha256(inputs).hexdigest(),
            len(inputs),
            2,
            (Tensor('büld\t\u2028 "x"', "float32", (1, 3, 4, 4)),),
        ),
        timing=DeviceTiming(3, 20_000_000, 200_000_000, 30_000_000, 5_000_000, 5),
    )
    name = job.job_id
    return {
        "orders.json": Orders(name).to_bytes(),
        f"{name}.job.json": job.to_bytes(),
        f"{name}.model.zip": model,
        f"{name}.inputs.bin": inputs,
    }


def run_app(files: dict[str, bytes], mailbox: Path) -> None:
    """Three launches, one engine: what stays on a phone between launches is the engine's."""
    for name, data in files.items():
        (mailbox / name).write_bytes(data)
    engine = SimulatedEngine()
    for _ in range(3):
        app.start(mailbox, engine)


def expected() -> dict[str, bytes]:
    """Every fixture by its name."""
    files = shared_files()
    job_id = json.loads(files["orders.json"])["run"]
    with TemporaryDirectory() as name:
        run_app(files, Path(name))
        journal = (Path(name) / f"{job_id}.journal.jsonl").read_bytes()
    return {**files, f"{job_id}.journal.jsonl": journal, "refused.json": refused(files[f"{job_id}.job.json"])}


def refused(text: bytes) -> bytes:
    """Jobs that neither side may accept, as hex, with the reason for people."""

    def changed(change: Callable[[Any], object], *, same_id: bool = False) -> bytes:
        value = json.loads(text)
        change(value)
        if not same_id:
            content = {k: v for k, v in value.items() if k not in ("format", "schema", "job_id")}
            import hashlib

            value["job_id"] = hashlib.sha256(canonical(content)).hexdigest()[:16]
        return canonical(value)

    cases = {
        "a changed byte": text.replace(b'"warm_loads":2', b'"warm_loads":3'),
        "spaces": text.replace(b",", b", "),
        "cut short": text[:-1],
        "two documents": text + b"{}",
        "a repeated key": text.replace(b'"warm_loads":2', b'"warm_loads":2,"warm_loads":2'),
        "a fraction": text.replace(b'"warm_loads":2', b'"warm_loads":2.0'),
        "a number with an exponent": text.replace(b'"warm_loads":2', b'"warm_loads":2e0'),
        "an unknown key": changed(lambda job: job.update(shell="rm -rf /")),
        "a missing key": changed(lambda job: job.pop("outputs")),
        "a newer schema": changed(lambda job: job.update(schema=2)),
        "another format": changed(lambda job: job.update(format="orders")),
        "a path as file name": changed(lambda job: job["model"].update(file="../model.zip")),
        "an absolute file name": changed(lambda job: job["inputs"].update(file="/etc/passwd")),
        "a hidden file name": changed(lambda job: job["inputs"].update(file=".inputs.bin")),
        "inputs of another size": changed(lambda job: job["inputs"].update(size_bytes=1)),
        "an endless tensor": changed(lambda job: job["inputs"]["tensors"][0].update(shape=[1 << 24] * 8)),
        "an empty shape side": changed(lambda job: job["inputs"]["tensors"][0].update(shape=[0, 3])),
        "too many rounds": changed(lambda job: job["timing"].update(rounds=1001)),
        "a negative time": changed(lambda job: job["timing"].update(round_ns=-1)),
        "a number too large": text.replace(b'"warm_loads":2', b'"warm_loads":92233720368547758080'),
        "a number as text": changed(lambda job: job.update(warm_loads="2")),
        "a number for true": changed(lambda job: job.update(outputs=1)),
        "an unknown compute unit": changed(lambda job: job.update(compute_unit="tpu")),
        "an unknown type": changed(lambda job: job["inputs"]["tensors"][0].update(dtype="float64")),
        "a model of 3 GiB": changed(lambda job: job["model"].update(size_bytes=3 << 30)),
        "an id in capitals": changed(lambda job: job.update(job_id=job["job_id"].upper()), same_id=True),
        "no UTF-8": text.replace("ü".encode(), b"\xff"),
        "deep nesting": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        "no object": b"[]",
        "nothing": b"",
    }
    rows = [
        {"why": why, "hex": data.hex() if len(data) < 20_000 else "", "nested": len(data) >= 20_000}
        for why, data in cases.items()
    ]
    return (json.dumps({"jobs": rows}, indent=1) + "\n").encode()


if __name__ == "__main__":
    FIXTURES.mkdir(exist_ok=True)
    for name, data in expected().items():
        (FIXTURES / name).write_bytes(data)
        print(name, len(data))
