"""A process of its own that appends rounds to a store and says which ones are durable.

Run as `python appender.py STORE RUN_ID CASE_ID START_INDEX SAMPLES [RLIMIT_BYTES]`: prints the round index
after each `append` returned, and `error: ...` for a StoreError. PYTHONPATH has the project and this folder.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import sample_run

from reports.store import Store, StoreError


def main() -> None:
    path, run_id, case_id, start, samples = sys.argv[1:6]
    if len(sys.argv) > 6:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[6]), int(sys.argv[6])))
    try:
        with Store(Path(path)) as store:
            for index in range(int(start), int(start) + 10_000):
                taken = sample_run.make_round(2e6, index=index, count=int(samples))
                store.append(int(run_id), case_id, taken, artifact=None)
                os.write(1, f"{index}\n".encode())
    except StoreError as error:
        os.write(1, f"error: {error}\n".encode())
        sys.exit(1)


if __name__ == "__main__":
    main()
