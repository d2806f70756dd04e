"""What can go wrong with a model that a user asked for; importing this loads no torch."""

from __future__ import annotations

from models.tables import UnknownNameError


class ModelError(ValueError):
    """A model that cannot be built as asked: names the model, the option, the value and what is valid."""


class UnknownModelError(ModelError, UnknownNameError):
    """A model name that neither our table, nor an installed extension, nor timm holds."""


class SideError(ModelError):
    """A model that cannot take an input of that side; it is fine at others."""


class CheckpointError(ModelError):
    """A checkpoint file that cannot be read safely, or that does not fit the network."""


class FoldingError(ModelError):
    """A fusion that would not be exact, so it is not made."""


class DataError(ValueError):
    """Images that cannot be used as asked: names the folder or file, what is wrong and the fix."""


class UnreadableImageError(DataError):
    """One image that no decoder takes; names the file and the reason."""


class ReadingError(DataError):
    """An image that could not be read for the machine's sake: memory, open files, its disk or share.

    It may be sound, so nothing goes on without it.
    """
