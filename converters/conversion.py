"""One conversion in this process: checked, looked up, made and stored. Loads a toolchain only to make it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import converters
from converters.artifact import Artifact, ConversionError, ConversionFailure, ConversionRequest
from converters.cache import ArtifactCache
from converters.keys import cache_key
from converters.reservations import Hold
from converters.stages import source_request
from models.errors import ModelError
from models.tables import lookup

OnStep = Callable[[str], None]


def convert(
    request: ConversionRequest,
    cache: ArtifactCache,
    on_step: OnStep | None = None,
    *,
    hold: Hold = lambda request: nullcontext(),
) -> Artifact:
    """The artifact of a request, from the cache or made now; what it is built from likewise.

    `on_step` is called with the name of each step as it begins; `hold` holds what a file needs for itself
    alone while it is made. Raises ConversionError with the typed
    failure, and CacheError where the cache folder cannot be used.
    """
    converters.check(request)
    key = cache_key(request)
    return cache.find(key) or _made(request, key, cache, on_step or (lambda name: None), hold)


def _converter(request: ConversionRequest) -> Callable[..., Artifact]:
    if request.model.is_file and request.kind == "onnx":
        from converters.onnx_from_file import convert as taken_over

        return taken_over
    found: Callable[..., Artifact] = lookup(converters.CONVERTERS, "converters", request.kind)
    return found


def _made(
    request: ConversionRequest, key: str, cache: ArtifactCache, on_step: OnStep, hold: Hold
) -> Artifact:
    wanted = source_request(request)
    given = {"source": convert(wanted, cache, on_step, hold=hold)} if wanted else {}
    try:
        converter = _converter(request)
        with hold(request):
            return cache.store(key, lambda folder: converter(request, folder, on_step=on_step, **given))
    except ModelError as error:
        advice = "Correct the model's name, options, resolution or checkpoint."
        raise ConversionError(ConversionFailure("bad_input", "eager", str(error), advice=advice)) from error
    except MemoryError as error:
        advice = "Use a smaller batch size or resolution, or fewer workers."
        failure = ConversionFailure("out_of_memory", "", "not enough memory in the process", advice=advice)
        raise ConversionError(failure) from error
