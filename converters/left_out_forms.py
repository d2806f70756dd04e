"""Which forms for deployment a request leaves out: checked without a toolchain, before a network is built."""

from __future__ import annotations

from converters.artifact import ConversionError, ConversionFailure, ConversionRequest
from models.spec import WITHOUT_FORM
from models.tables import suggest

# Those of `converters.deployment_forms`, in the order in which they are taken.
FORM_NAMES = (
    "constant biases", "one classifier", "scaled norm", "five axes", "channels first", "sliced shifts",
)  # fmt: skip


def check(request: ConversionRequest) -> None:
    """Raises ConversionError `bad_input` that names the form, or why the request can leave none out.

    Whether the network has the form is known where it is built (`converters.ledger.fuse`).
    """
    value = dict(request.build).get(WITHOUT_FORM)
    if value is None:
        return
    given, known = str(value).split("+"), [name.replace(" ", "-") for name in FORM_NAMES]
    for name in given:
        if name not in known:
            raise _refused(f"{WITHOUT_FORM}={value}: there is no form '{name}': {suggest(name, known)}")
        if given.count(name) > 1:
            raise _refused(f"{WITHOUT_FORM}={value}: '{name}' is given twice")
    if request.model.is_file:
        raise _refused(
            f"{WITHOUT_FORM}={value}: {request.model.name} is an ONNX file, which is taken as it is; forms"
            " are of what is converted from PyTorch"
        )
    if not request.fused:
        raise _refused(
            f"{WITHOUT_FORM}={value}: what is not fused is in none of its forms; leave out one of the two"
        )


def _refused(message: str) -> ConversionError:
    return ConversionError(ConversionFailure("bad_input", "request", message, advice="Change the request."))
