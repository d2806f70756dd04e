"""A process that answers one question: JSON in on stdin, JSON out on what was its stdout.

What loads torch and timm to plan a suite runs in one, so that the process that measures does not hold them.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, TextIO


def private_stdout() -> TextIO:
    """The pipe to the parent, out of reach: descriptor 1 becomes stderr for whoever prints."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def answer(function: Callable[[Any], Any]) -> None:
    """Write what `function` makes of the question; whatever libraries print goes to stderr."""
    answers = private_stdout()
    warnings.simplefilter("ignore")
    with answers:
        json.dump(function(json.load(sys.stdin)), answers)
