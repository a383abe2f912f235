"""In which of two forms numbers are told to whoever scrapes.

The text format is what everybody reads. OpenMetrics says the same and has exemplars: a trace id beside a bucket, by
which one gets from a slow percentile to a request that was that slow.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from prometheus_client import exposition
from prometheus_client.openmetrics import exposition as openmetrics

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_LONGEST: Final = 1024  # of an Accept field that is looked at


class Form(Enum):
    """A form, and how its media type is written."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def exposed(registry: CollectorRegistry, form: Form) -> bytes:
    """Return all numbers of a registry."""
    if form is Form.TEXT:
        return exposition.generate_latest(registry)
    text: bytes = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]  # the library has no types here
    return text


def form_for(accept: bytes) -> Form:
    """Return the form that an Accept field likes best (RFC 9110 section 12.5.1); the text format when in doubt."""
    liking = {Form.TEXT: 0.0, Form.OPENMETRICS: 0.0}
    for item in accept[:_LONGEST].decode("latin-1").lower().split(","):
        media_type, *parameters = (part.strip() for part in item.split(";"))
        form = _FORMS.get(media_type)
        if form is not None and _version(parameters) in _VERSIONS[form]:
            liking[form] = max(liking[form], _quality(parameters))
    return Form.OPENMETRICS if liking[Form.OPENMETRICS] > liking[Form.TEXT] else Form.TEXT


_FORMS: Final = {"text/plain": Form.TEXT, "application/openmetrics-text": Form.OPENMETRICS}
# Left out: any. A reader of OpenMetrics 0.0.1 reads 1.0.0; who wants a later one only is not served with this.
_VERSIONS: Final = {Form.TEXT: {"", "0.0.4"}, Form.OPENMETRICS: {"", "0.0.1", "1.0.0"}}


def _version(parameters: list[str]) -> str:
    return _value(parameters, "version")


def _quality(parameters: list[str]) -> float:
    written = _value(parameters, "q")
    try:
        return min(max(float(written), 0.0), 1.0) if written else 1.0
    except ValueError:
        return 0.0


def _value(parameters: list[str], wanted: str) -> str:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == wanted:
            return value.strip().strip('"')
    return ""
