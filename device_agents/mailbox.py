"""The folder that host and app share: the app's Documents. Every file of a job begins with the job's id.

    orders.json                                    what to run and what to forget; written by the host
    JOB_ID.job.json, JOB_ID.model.zip, JOB_ID.inputs.bin    written by the host, orders.json last
    JOB_ID.journal.jsonl, JOB_ID.outputs.bin       written by the app
    JOB_ID.compiled/                               the app's own

The names are flat, because not every tool that carries files makes folders on the way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from device_agents.forms import HEX16, Form, FormError, canonical, parsed, whole
from device_agents.job import SCHEMA

JOB, MODEL, INPUTS = "job.json", "model.zip", "inputs.bin"
JOURNAL, OUTPUTS, COMPILED = "journal.jsonl", "outputs.bin", "compiled"
ORDERS = "orders.json"
FORMAT = "deploybench device orders"
MAX_ORDERS_BYTES = 1 << 16


def file_name(job_id: str, name: str) -> str:
    return f"{job_id}.{name}"


def place(mailbox: Path, job_id: str, name: str) -> Path:
    return mailbox / file_name(job_id, name)


@dataclass(frozen=True, slots=True)
class Orders:
    """`run` is a job's id or empty; all files of the jobs in `forget` are deleted, the host has them."""

    run: str = ""
    forget: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        return canonical({"format": FORMAT, "schema": SCHEMA, "run": self.run, "forget": list(self.forget)})

    @staticmethod
    def from_bytes(text: bytes) -> Orders:
        """Raises FormError."""
        return whole(parsed(text, "orders", max_bytes=MAX_ORDERS_BYTES), "orders", _orders)


def _orders(form: Form) -> Orders:
    form.one_of("format", (FORMAT,))
    form.integer("schema", SCHEMA, SCHEMA)
    orders = Orders(form.text("run", most=16), form.texts("forget", most=1000, length=16))
    for job_id in (*orders.forget, *([orders.run] if orders.run else [])):
        if not HEX16.fullmatch(job_id):
            raise FormError(f"orders: {job_id!r} is no job id")
    return orders
