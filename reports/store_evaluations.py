"""Evaluations in the store: rows that are only ever added, each with a checksum over all that it holds."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from typing import Any

from models.spec import ModelSpec
from reports.codec import decode, encode, samples_from_bytes, samples_to_bytes
from reports.database import Database
from reports.evaluations import EvaluatedFile, Evaluation, ImageSet
from reports.store_rows import insert, verify

ARRAYS = ("labels", "predicted", "ranks", "eager")


def add(db: Database, evaluation: Evaluation) -> int:
    """The evaluation's number. Raises ValueError for arrays that are not of one value an image."""
    sizes = {len(getattr(evaluation, name)) for name in ARRAYS[:3]}
    if len(sizes) != 1 or len(evaluation.eager) not in (0, evaluation.count) or not evaluation.count:
        raise ValueError("an evaluation has one label, one prediction and one rank for every image")
    file = evaluation.file
    row = {
        "evaluated_at_ns": evaluation.evaluated_at_ns,
        "model": file.model.name if file.model else "",
        "file_sha256": file.sha256,
        "facts": encode(evaluation.facts()),
        **{name: samples_to_bytes(getattr(evaluation, name)) for name in ARRAYS},
    }
    return insert(db, "evaluations", row)


def read(db: Database) -> list[Evaluation]:
    """All of them, oldest first."""
    return [_evaluation(db, row) for row in db.rows("SELECT * FROM evaluations ORDER BY evaluation_id")]


def of_models(db: Database, models: Collection[ModelSpec]) -> tuple[Evaluation, ...]:
    """Those of models of these names, and of the files that they are, oldest first.

    No other's arrays are read.
    """
    names, files = {model.name for model in models}, {model.weights for model in models if model.is_file}
    found = []
    for row in db.rows("SELECT evaluation_id, model, file_sha256 FROM evaluations ORDER BY evaluation_id"):
        if row["model"] in names or f"sha256:{row['file_sha256']}" in files:
            found += db.rows("SELECT * FROM evaluations WHERE evaluation_id = ?", row["evaluation_id"])
    return tuple(_evaluation(db, row) for row in found)


def _evaluation(db: Database, row: sqlite3.Row) -> Evaluation:
    verify(db, "evaluations", row)
    facts: dict[str, Any] = decode(row["facts"])
    values: dict[str, Any] = {
        **facts,
        "file": EvaluatedFile.from_dict(facts["file"]),
        "images": ImageSet.from_dict(facts["images"]),
        **{name: samples_from_bytes(row[name]) for name in ARRAYS},
    }
    return Evaluation(evaluated_at_ns=row["evaluated_at_ns"], **values)
