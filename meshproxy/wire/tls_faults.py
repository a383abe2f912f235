"""Why a handshake failed, in words a person can act on: one table from OpenSSL's words to ours."""

from __future__ import annotations

import ssl
from enum import StrEnum


class HandshakeFault(StrEnum):
    """The `reason` label of `meshproxy_handshake_failures_total`; a fixed set, so peers cannot grow it."""

    NO_CERTIFICATE = "no_certificate"
    UNKNOWN_CA = "unknown_ca"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    BAD_CERTIFICATE = "bad_certificate"
    NOT_TLS = "not_tls"
    PROTOCOL_VERSION = "protocol_version"
    REFUSED_BY_PEER = "refused_by_peer"
    CLOSED = "closed"
    RESET = "reset"
    TIMEOUT = "timeout"
    CROWDED_OUT = "crowded_out"  # by newcomers, while it was the peer's turn to speak
    TOO_LARGE = "too_large"
    PROTOCOL_ERROR = "protocol_error"


class HandshakeError(Exception):
    """A handshake did not end in an authenticated connection. `fault` is for counting, `detail` for people."""

    def __init__(self, fault: HandshakeFault, detail: str) -> None:
        super().__init__(f"{fault}: {detail}")
        self.fault = fault
        self.detail = detail


# X509_V_ERR_* of openssl/x509_vfy.h, as far as they mean something else than "the chain is bad".
_BY_VERIFY_CODE = {
    2: HandshakeFault.UNKNOWN_CA,  # unable to get issuer certificate
    9: HandshakeFault.NOT_YET_VALID,
    10: HandshakeFault.EXPIRED,
    18: HandshakeFault.UNKNOWN_CA,  # self-signed leaf
    19: HandshakeFault.UNKNOWN_CA,  # self-signed certificate in the chain
    20: HandshakeFault.UNKNOWN_CA,  # unable to get local issuer certificate
    21: HandshakeFault.UNKNOWN_CA,  # unable to verify the first certificate
}

_BY_REASON = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": (HandshakeFault.NO_CERTIFICATE, "the peer presented no certificate"),
    "HTTP_REQUEST": (HandshakeFault.NOT_TLS, "the peer speaks plain HTTP, not TLS"),
    "HTTPS_PROXY_REQUEST": (HandshakeFault.NOT_TLS, "the peer speaks plain HTTP, not TLS"),
    "WRONG_VERSION_NUMBER": (HandshakeFault.NOT_TLS, "the peer does not speak TLS"),
    "UNEXPECTED_MESSAGE": (HandshakeFault.NOT_TLS, "the peer does not speak TLS"),
    "PACKET_LENGTH_TOO_LONG": (HandshakeFault.NOT_TLS, "the peer does not speak TLS"),
    "BAD_RECORD_TYPE": (HandshakeFault.NOT_TLS, "the peer does not speak TLS"),
    "UNSUPPORTED_PROTOCOL": (HandshakeFault.PROTOCOL_VERSION, "the peer does not offer TLS 1.3"),
    "VERSION_TOO_LOW": (HandshakeFault.PROTOCOL_VERSION, "the peer does not offer TLS 1.3"),
    "TLSV1_ALERT_PROTOCOL_VERSION": (HandshakeFault.PROTOCOL_VERSION, "the peer refused TLS 1.3"),
    "UNEXPECTED_EOF_WHILE_READING": (HandshakeFault.CLOSED, "the peer closed the connection during the handshake"),
}

_ALERT_WORDS = {
    "CERTIFICATE_REQUIRED": "the peer asks for our certificate",
    "UNKNOWN_CA": "the peer does not know the CA that signed our certificate",
    "CERTIFICATE_EXPIRED": "the peer says our certificate has expired",
    "BAD_CERTIFICATE": "the peer refused our certificate",
    "CERTIFICATE_UNKNOWN": "the peer refused our certificate",
    "CERTIFICATE_REVOKED": "the peer says our certificate is revoked",
    "UNSUPPORTED_CERTIFICATE": "the peer refused our certificate's purpose",
    "ACCESS_DENIED": "the peer denied us access",
    "NO_APPLICATION_PROTOCOL": "the peer speaks none of the protocols (ALPN) we offered",
    "DECRYPT_ERROR": "the peer could not verify our signature",
}


def alert_in_words(reason: str) -> str | None:
    """Return what a received alert means; None when OpenSSL's `reason` is not an alert from the peer.

    `reason` looks like `TLSV13_ALERT_CERTIFICATE_REQUIRED` (alerts of RFC 8446 section 6.2).
    """
    _, is_alert, name = reason.partition("_ALERT_")
    if not is_alert:
        return None
    return _ALERT_WORDS.get(name, "the peer sent the alert " + name.lower().replace("_", " "))


def breach_in_words(reason: str) -> str:
    """Return what OpenSSL's `reason` means on an established connection, when it is no alert.

    Only what does not authenticate was changed on its way; whatever does, the peer itself has said.
    """
    words = reason.lower().replace("_", " ") or "TLS protocol error"
    if reason == "DECRYPTION_FAILED_OR_BAD_RECORD_MAC":
        return f"{words}: bytes do not authenticate, they were changed on the wire"
    return f"{words}: the peer breaks the rules of TLS"


def classify(error: ssl.SSLError) -> HandshakeError:
    """Name a failed handshake: by the verifier's code, by OpenSSL's reason, or by the peer's alert."""
    if isinstance(error, ssl.SSLCertVerificationError):
        fault = _BY_VERIFY_CODE.get(error.verify_code, HandshakeFault.BAD_CERTIFICATE)
        return HandshakeError(fault, error.verify_message)
    reason = error.reason or ""
    if reason in _BY_REASON:
        return HandshakeError(*_BY_REASON[reason])
    alert = alert_in_words(reason)
    if alert is not None:
        return HandshakeError(HandshakeFault.REFUSED_BY_PEER, alert)
    return HandshakeError(HandshakeFault.PROTOCOL_ERROR, reason.lower().replace("_", " ") or "TLS protocol error")
