"""What can go wrong, told so that a person can mend it.

A `Problem` is one fault in one file; `FaultyInput` carries all of them at once, because being told of ten mistakes
one at a time is nine runs too many. A `Failure` is what became of an HTTP exchange that got no answer from its service:
one table drives the reply, the access line and the metric.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault under judgement.

    `file` is the path as the user wrote or would recognise it, `line` counts from 1 (None when the fault has no line:
    a missing file, a binary key), `where` is the key path inside the file (`inbound[0].forward`) or empty.
    `found` and `expected` are phrases without a full stop; `remedy` is an imperative sentence, with the command to
    type where there is one. No field ever holds key material or a passphrase.
    """

    file: str
    found: str
    expected: str
    remedy: str
    line: int | None = None
    where: str = ""

    def __str__(self) -> str:
        """`sidecar.toml:12: inbound[0].forward: found ...; expected ... -> remedy`, on one line."""
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        subject = f"{self.where}: " if self.where else ""
        return f"{place}: {subject}found {self.found}; expected {self.expected} -> {self.remedy}"


class FaultyInput(Exception):
    """Files under judgement are faulty; `problems` lists every fault found, in file and line order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.file, p.line or 0)))
        super().__init__("\n".join(map(str, self.problems)))


class StartError(Exception):
    """The sidecar cannot start for a reason outside its files (an address in use); its text is one clear sentence."""


class Failure(Enum):
    """Why the sidecar answered, or cut, instead of the service.

    Each has the status of the reply, the error type of RFC 9209 section 2.3 for `Proxy-Status` (None: the reply is not
    a proxy's failure), the word for metrics and the access log, the title a caller is shown, and the response flag of
    Envoy's access log that comes nearest (empty: none). The title says which phase failed and nothing internal.
    """

    DENIED = (403, "http_request_denied", "denied", "This caller may not make this request", "UAEX")
    BAD_REQUEST = (400, "http_request_error", "bad_request", "The request is not acceptable HTTP", "DPE")
    METHOD_REFUSED = (405, "http_request_error", "method_refused", "This method is not forwarded", "DPE")
    BODY_TOO_LARGE = (413, "http_request_error", "body_too_large", "The request body is too large", "DPE")
    TARGET_TOO_LONG = (414, "http_request_error", "target_too_long", "The request target is too long", "DPE")
    EXPECTATION = (417, "http_request_error", "expectation", "The request expects what is not done here", "DPE")
    HEAD_TOO_LARGE = (431, "http_request_error", "head_too_large", "The request head is too large", "DPE")
    NOT_IMPLEMENTED = (
        501,
        "http_request_error",
        "not_implemented",
        "The request asks for what is not implemented",
        "DPE",
    )
    VERSION_REFUSED = (505, "http_request_error", "version_refused", "This version of HTTP is not spoken here", "DPE")
    REQUEST_TIMEOUT = (408, "http_request_error", "request_timeout", "The request did not arrive in time", "SI")
    PEER_LIMIT = (429, "http_request_denied", "peer_limit", "This caller has too many connections", "RL")
    RESOLVE = (502, "dns_error", "upstream_unresolved", "The name of the upstream could not be resolved", "DF")
    RESOLVE_TIMEOUT = (504, "dns_timeout", "resolve_timeout", "The name of the upstream was not resolved in time", "DF")
    CONNECT_REFUSED = (502, "connection_refused", "upstream_refused", "The upstream could not be connected", "UF")
    CONNECT_TIMEOUT = (504, "connection_timeout", "connect_timeout", "The upstream did not accept in time", "UF")
    TLS = (502, "tls_protocol_error", "upstream_tls", "The TLS handshake with the upstream failed", "UF")
    CERTIFICATE = (
        502,
        "tls_certificate_error",
        "upstream_certificate",
        "The upstream's certificate is not acceptable",
        "UF",
    )
    TLS_ALERT = (502, "tls_alert_received", "upstream_alert", "The upstream broke the TLS handshake off", "UF")
    IDENTITY = (502, "tls_certificate_error", "upstream_identity", "The upstream is not who it should be", "UF")
    UPSTREAM_CLOSED = (502, "connection_terminated", "upstream_closed", "The upstream closed before it answered", "UC")
    UPSTREAM_DENIED = (502, "destination_unavailable", "upstream_denied", "The upstream closed before any byte", "UC")
    UPSTREAM_PROTOCOL = (
        502,
        "http_protocol_error",
        "upstream_protocol",
        "The upstream's answer is not acceptable HTTP",
        "UPE",
    )
    RESPONSE_TIMEOUT = (504, "http_response_timeout", "response_timeout", "The upstream did not answer in time", "UT")
    NOT_READY = (503, "proxy_internal_error", "not_ready", "The sidecar has no usable identity", "LH")
    NOT_RECORDED = (503, "proxy_internal_error", "not_recorded", "The decision cannot be recorded now", "UAEX")
    LIMIT = (503, "connection_limit_reached", "limit", "Too many requests wait for the upstream", "UO")
    OVERLOADED = (503, "proxy_internal_error", "overloaded", "The sidecar has more to do than it can", "OM")
    INTERNAL = (500, "proxy_internal_error", "internal", "The sidecar failed", "LR")
    # Never a reply: the head of the answer was out already, or nobody is there to read one.
    RESPONSE_TRUNCATED = (502, "http_response_incomplete", "response_truncated", "The answer ended early", "UC")
    REVOKED = (403, None, "revoked", "The caller's certificate was revoked", "UAEX")
    CLIENT_GONE = (499, None, "client_gone", "The caller went away", "DC")

    def __init__(self, status: int, token: str | None, word: str, title: str, flag: str = "") -> None:
        self.status = status
        self.token = token
        self.word = word
        self.title = title
        self.flag = flag
