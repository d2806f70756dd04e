"""The command line, noting every record and every evaluation that the store has acknowledged.

`python acknowledging.py ARGUMENTS...` with the file for the notes in ACKNOWLEDGED: one JSON list a line,
written in one call after `append` or `add_evaluation` has returned.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench import main
from reports.store import Store
from runners.measurement import Round

notes = os.open(os.environ["ACKNOWLEDGED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
append, add_evaluation = Store.append, Store.add_evaluation


def noted(store, run_id, case_id, outcome, *, artifact):
    record_id = append(store, run_id, case_id, outcome, artifact=artifact)
    kind = "round" if isinstance(outcome, Round) else "failure"
    os.write(notes, f"{json.dumps([record_id, run_id, case_id, kind, outcome.round_index])}\n".encode())
    return record_id


def noted_evaluation(store, evaluation):
    number = add_evaluation(store, evaluation)
    os.write(notes, f"{json.dumps([number, 'evaluation', evaluation.file.training])}\n".encode())
    return number


Store.append, Store.add_evaluation = noted, noted_evaluation
sys.exit(main())
