"""How long the builder's tactics take, kept between builds: engines are built faster and with equal choices.

One file per package, version, model of GPU and driver. Any number of processes may use it: it is replaced as
a whole, under a lock, by what it holds by then and what a build has added. A damaged one is told of and begun
again.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from converters.artifact import ConversionError, ConversionFailure
from converters.gpu_here import Gpu
from converters.tensorrt_package import title

FOLDER = "timing"
_DIGEST_BYTES = 32


class TimingCache:
    """That of one build: `attach` before, `save` after. `note` says what was wrong with the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._cache: Any = None
        self.note = ""

    def attach(self, trt: Any, config: Any, *, asked: bool) -> None:
        """Give the builder what the file holds.

        A package that has no timing cache says so by a deprecation; then nothing is kept. Raises
        ConversionError `bad_input` where one was `asked` for.
        """
        content, self.note = read(self._path)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            cache = config.create_timing_cache(content)
            fits = config.set_timing_cache(cache, False)
            useless = [str(w.message) for w in caught if issubclass(w.category, DeprecationWarning)]
        if not useless and fits:
            self._cache = cache
        elif not useless:
            self.note = f"timing cache {self._path.name} is of another GPU or driver and is not used"
        elif asked:
            message = f"timing_cache: {title(trt)} keeps none: {useless[0]}"
            advice = "Leave the option out, or use the package tensorrt."
            raise ConversionError(ConversionFailure("bad_input", "engine", message, advice=advice))

    def save(self, config: Any) -> None:
        """Put what the build has learnt into the file, beside what other builds have put there meanwhile."""
        if self._cache is None:
            return
        with _locked(self._path):
            content, note = read(self._path)
            if content and not note:
                self._cache.combine(config.create_timing_cache(content), True)
            write(self._path, bytes(memoryview(self._cache.serialize())))


def path_of(root: Path, trt: Any, target: str, gpu: Gpu) -> Path:
    """The file under an artifact cache's root: timings are those of a model of GPU, under its driver."""
    names = (trt.__name__, trt.__version__, target, gpu.name, gpu.driver)
    words = (re.sub(r"[^A-Za-z0-9._]+", "_", name) for name in names if name)
    return root / FOLDER / f"{'-'.join(words)}.cache"


def read(path: Path) -> tuple[bytes, str]:
    """A file's content without its checksum, and what is wrong with it: then the content is empty."""
    try:
        stored = path.read_bytes()
    except FileNotFoundError:
        return b"", ""
    except OSError as error:
        return b"", f"timing cache {path.name} cannot be read and is not used: {error.strerror}"
    digest, content = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        return b"", f"timing cache {path.name} is damaged (sha256 differs): it is begun again"
    return content, ""


def write(path: Path, content: bytes) -> None:
    """Replace a file as a whole: a reader sees the one before or this one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    try:
        partial.write_bytes(hashlib.sha256(content).digest() + content)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
