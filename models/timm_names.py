"""Names of all timm models, read from the installed package's source: timm and torch are not imported.

Importing timm takes seconds; a listing or the check of a name takes milliseconds this way.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

REGISTERED = re.compile(rb"\n@register_model\b[^\n]*\n(?:@[^\n]*\n)*def (\w+)\(")


@cache
def timm_names() -> tuple[str, ...]:
    """Sorted architecture names, without pretrained tags; empty where timm is not installed."""
    spec = find_spec("timm")
    folders = spec.submodule_search_locations if spec else None
    sources = (path for folder in folders or () for path in Path(folder, "models").glob("*.py"))
    return tuple(
        sorted({name.decode() for path in sources for name in REGISTERED.findall(path.read_bytes())})
    )


def is_timm_name(name: str) -> bool:
    """Whether `name`, with or without a pretrained tag after a dot (`resnet50.a1_in1k`), is a timm model."""
    return name.partition(".")[0] in timm_names()
