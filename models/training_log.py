"""A training's curves as an event file that TensorBoard reads.

Written by tensorboardX, without its thread: what the disk refuses is an error where it happens.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from models.errors import DataError
from models.training_files import saving
from models.training_request import Epoch


class TrainingLog:
    """Scalars by step. What a broken run wrote after `start_step` is marked as superseded.

    A START event of a step takes back the points of that step too, and those of `start_step` are whole.
    """

    def __init__(self, folder: Path, *, start_step: int) -> None:
        try:
            from tensorboardX import proto, summary
            from tensorboardX.event_file_writer import EventsWriter
        except ImportError as error:
            raise DataError(
                "the log: tensorboardX is not installed: pip install 'deploybench[train]'"
            ) from error
        self._scalar = summary.scalar
        self._event = proto.event_pb2.Event
        session = proto.event_pb2.SessionLog(status=proto.event_pb2.SessionLog.START)
        self._folder = folder
        with saving(folder):
            self._writer = EventsWriter(str(folder / "events"), f".{start_step}.{os.getpid()}")
            start = self._event(wall_time=time.time(), step=start_step + 1, session_log=session)
            self._writer.write_event(start)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        with saving(self._folder):
            for name, value in values.items():
                summary = self._scalar(name, value)
                self._writer.write_event(self._event(wall_time=time.time(), step=step, summary=summary))

    def epoch(self, epoch: Epoch) -> None:
        """An epoch's results."""
        values = epoch.to_dict()
        names = {"train_loss": "epoch/train_loss", "val_loss": "val/loss", "top1": "val/top1"}
        names |= {name: f"epoch/{name}" for name in ("images_per_second", "peak_memory_bytes")}
        self.write(epoch.step, {shown: values[name] for name, shown in names.items()})

    def flush(self) -> None:
        """Hand over what is written: a training that goes on from here does not write it again."""
        with saving(self._folder):
            self._writer.flush()

    def close(self) -> None:
        with saving(self._folder):
            self._writer.close()
