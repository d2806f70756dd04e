"""How large the artifact cache may grow, and keeping it there while files are made and after a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from commands import UsageError
from converters.byte_sizes import parse_bytes
from converters.cache_trim import made_since, trim
from reports.formatting import size

if TYPE_CHECKING:
    from commands.config import Config


def limit_of(config: Config) -> int | None:
    """Bytes of `max_artifacts`; None where there is no limit."""
    text = config.cache.max_artifacts
    return parse_bytes(text) if text else None


def own_limit_of(config: Config) -> int:
    """Bytes of `max_batched`: what a run of networks by pattern may keep of the files that it made."""
    return parse_bytes(config.cache.max_batched)


def hold_own(root: Path, keys: Iterable[str], *, since_ns: int, max_bytes: int) -> None:
    """Of these artifacts, those that were made since `since_ns` are made to take `max_bytes` at most.

    Older ones, which some other run made, stay. Raises converters.cache.CacheError.
    """
    trim(root, max_bytes, among=made_since(root, keys, since_ns))


def parse_limit(option: str, text: str) -> int:
    """Raises UsageError for what is no size."""
    try:
        return parse_bytes(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


@dataclass
class ArtifactLimit:
    """Holds a cache to `max_bytes`, where that is not None.

    Files that a living process needs stay, so a suite may need more than the limit: `tell` is told once.
    """

    root: Path
    max_bytes: int | None
    tell: Callable[[str], None]
    told: bool = field(default=False, init=False)

    def hold(self) -> None:
        """Make the cache small enough again. Raises converters.cache.CacheError."""
        if self.max_bytes is None:
            return
        done = trim(self.root, self.max_bytes)
        if done.left_bytes > self.max_bytes and done.kept and not self.told:
            self.told = True
            self.tell(
                f"artifacts take {size(done.left_bytes)}, more than max_artifacts allows"
                f" ({size(self.max_bytes)}): what a running suite needs is kept until its end"
            )
