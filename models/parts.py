"""Networks that can be taken apart: into the blocks they are made of, each at its own shape.

Importing this module loads no torch; `parts_of` does.
"""

from __future__ import annotations

from pkgutil import resolve_name

from models.errors import ModelError
from models.spec import ModelSpec

PARTS = {
    "nextvit_small": "models.nextvit_parts:parts",
    "nextvit_base": "models.nextvit_parts:parts",
    "nextvit_large": "models.nextvit_parts:parts",
}


def parts_of(spec: ModelSpec) -> list[tuple[str, ModelSpec]]:
    """(module path, the part as a model of its own) in order of execution; equal parts are equal specs.

    Raises ModelError for a network that cannot be taken apart.
    """
    if spec.name not in PARTS:
        raise ModelError(f"{spec.name}: its parts are not known; those of {', '.join(PARTS)} are")
    found: list[tuple[str, ModelSpec]] = resolve_name(PARTS[spec.name])(spec)
    return found
