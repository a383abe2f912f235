"""Certificates that our own CA's key has signed and no sound CA would: refused, and a log line says why.

What OpenSSL refuses, the peer hears of by an alert, named here as the peer's OpenSSL names it. What only the judge of
the leaf refuses comes after the handshake, when `ssl` can say no alert any more: the peer is reset.
"""

from __future__ import annotations

import contextlib
import ssl
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.scenarios.actors import Ended, Service, client_context, echo, exchange, tls_dial, underneath
from tests.scenarios.stage import inbound, outbound

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from tests.factory import Identity
    from tests.scenarios.actors import Visit
    from tests.scenarios.stage import Sidecar, Stage

WEB, API = "spiffe://mesh.test/web", "spiffe://mesh.test/api"
SECOND = timedelta(seconds=1)
STRANGE = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.55555.1"), b"\x05\x00")
EMAIL = (ExtendedKeyUsageOID.EMAIL_PROTECTION,)


@dataclass(frozen=True)
class Case:
    """What is forged, from the one sound URI; the alert (none: a reset), and the log's word and detail."""

    alert: str
    reason: str
    detail: str
    forged: dict[str, Any] = field(default_factory=dict)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def names(*kinds: type[x509.DNSName | x509.RFC822Name]) -> dict[str, Any]:
    """No URI SAN, but the identity in names of other kinds."""
    return {"uris": (), "extra": (x509.SubjectAlternativeName([kind(WEB) for kind in kinds]),)}


# An alert's number stands in RFC 8446 section 6.
CASES: dict[str, Callable[[], Case]] = {
    "a critical extension nobody knows": lambda: Case(
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN", "bad_certificate", "unhandled critical extension", {"critical": (STRANGE,)}
    ),
    "for mail only": lambda: Case(
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "bad_certificate",
        "unsuitable certificate purpose",
        {"extended_key_usage": EMAIL},
    ),
    "no digital signatures": lambda: Case(
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "bad_certificate",
        "unsuitable certificate purpose",
        {"digital_signature": False, "crl_sign": True},
    ),
    "no key usage": lambda: Case("", "key_usage", "no keyUsage", {"with_key_usage": False}),
    "no extended key usage": lambda: Case(
        "", "extended_key_usage", "no extended key usage", {"extended_key_usage": None}
    ),
    "may sign certificates": lambda: Case("", "key_usage", "only a CA may hold", {"cert_sign": True}),
    "a CA's certificate": lambda: Case("", "is_ca", "CA:TRUE", {"is_ca": True, "cert_sign": True}),
    "two names": lambda: Case("", "several_uris", "2 URI SANs", {"uris": (WEB, f"{WEB}-2")}),
    "one name twice": lambda: Case("", "several_uris", "2 URI SANs", {"uris": (WEB, WEB)}),
    "a hundred names": lambda: Case(
        "", "several_uris", "100 URI SANs", {"uris": tuple(f"{WEB}-{number}" for number in range(100))}
    ),
    "a name with NUL": lambda: Case("", "bad_id", "not a SPIFFE ID", {"uris": (f"{WEB}\0.evil.test",)}),
    "a name with a line end": lambda: Case("", "bad_id", "not a SPIFFE ID", {"uris": (f"{WEB}\n",)}),
    "the name as a DNS name": lambda: Case("", "no_uri", "no URI SAN", names(x509.DNSName)),
    "the name as a mail address": lambda: Case("", "no_uri", "no URI SAN", names(x509.RFC822Name)),
    "the name as both": lambda: Case("", "no_uri", "no URI SAN", names(x509.DNSName, x509.RFC822Name)),
    "the name as a subject": lambda: Case("", "no_uri", "no URI SAN", {"uris": (), "subject": WEB}),
    "expired by a second": lambda: Case(
        "SSLV3_ALERT_CERTIFICATE_EXPIRED", "expired", "expired", {"not_after": now() - SECOND}
    ),
    "not valid yet": lambda: Case(
        "SSLV3_ALERT_BAD_CERTIFICATE", "not_yet_valid", "not yet valid", {"not_before": now() + 60 * SECOND}
    ),
}


@dataclass(frozen=True)
class House:
    service: Service
    api: Sidecar


@pytest.fixture(scope="module")
def house(shared_stage: Stage) -> House:
    service = shared_stage.keep(Service(echo))
    return House(service, shared_stage.sidecar("api", inbound(forward=service.address)))


def forged(stage: Stage, name: str, **how: Any) -> Identity:
    into: Path = stage.workspace / f"forged-{abs(hash(name))}"
    return stage.mesh.forge(into=into, **({"uris": (WEB,)} | how))


@pytest.mark.parametrize("name", CASES)
def test_a_caller_with_it_is_refused(shared_stage: Stage, house: House, name: str) -> None:
    case = CASES[name]()
    house.api.log.turn_page()

    with tls_dial(house.api.address("api"), client_context(forged(shared_stage, name, **case.forged))) as caller:
        if case.alert:
            with pytest.raises(ssl.SSLError) as refusal:
                caller.recv(1)
            assert refusal.value.reason == case.alert
        else:
            assert underneath(caller) == (b"", Ended.RESET)

    told = house.api.log.event("handshake_failed")
    assert told["reason"] == case.reason
    assert case.detail in told.text("detail")
    assert house.service.visits == []


def test_a_chain_of_64_kib_is_too_long_to_be_listened_to(shared_stage: Stage, house: House) -> None:
    """The handshake is left in the middle, so the caller hears no alert; OpenSSL would have taken 100 KiB."""
    house.api.log.turn_page()
    heavy = shared_stage.mesh.forge(
        into=shared_stage.workspace / "heavy", uris=[f"spiffe://mesh.test/{'x' * 1900}"] * 8
    ).certificate
    caller = shared_stage.mesh.forge(into=shared_stage.workspace / "long", uris=[WEB], above=(heavy,) * 5)
    assert caller.chain.stat().st_size * 3 / 4 > 65_536  # as DER

    heard = b""
    with contextlib.suppress(OSError), tls_dial(house.api.address("api"), client_context(caller)) as tls:
        heard, _ = underneath(tls)

    assert heard == b""
    told = house.api.log.event("handshake_failed")
    assert (told["reason"], told["detail"]) == (
        "too_large",
        "the peer says more than 64 KiB before the handshake is over",
    )
    assert house.service.visits == []


def test_names_beside_the_one_identity_do_no_harm(shared_stage: Stage, house: House) -> None:
    """X509-SVID section 2 allows other names; a certificate that is only large is served."""
    dns = tuple(f"name-{number}.test" for number in range(100))
    caller = forged(shared_stage, "a hundred DNS names", dns=dns)

    with tls_dial(house.api.address("api"), client_context(caller)) as tls:
        tls.sendall(b"hello")
        assert tls.recv(5) == b"hello"
    house.service.visits.clear()


class FarEnd(Service):
    """A TLS server with a forged identity; `heard` are the alerts it was told, by OpenSSL's names."""

    def __init__(self, identity: Identity) -> None:
        super().__init__(self._serve_tls)
        self.heard: list[str] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(identity.chain, identity.key)
        self._context.load_verify_locations(identity.bundle)
        self._context.verify_mode = ssl.CERT_REQUIRED

    def _serve_tls(self, sock: socket.socket, visit: Visit) -> None:
        try:
            with self._context.wrap_socket(sock, server_side=True) as tls:
                visit.take(tls.recv(100))
        except ssl.SSLError as error:
            self.heard.append(error.reason or "")


# By OpenSSL, before our certificate is shown; or by the judge, after the handshake and before the first byte.
FAR_ENDS = {
    "a critical extension nobody knows": ("handshake", "unhandled critical extension"),
    "for mail only": ("handshake", "unsuitable certificate purpose"),
    "no key usage": ("identity", "no keyUsage"),
    "a CA's certificate": ("identity", "CA:TRUE"),
    "two names": ("identity", "2 URI SANs"),
    "a name with NUL": ("identity", "not a SPIFFE ID"),
    "the name as a DNS name": ("identity", "no URI SAN"),
    "expired by a second": ("handshake", "expired"),
    "not valid yet": ("handshake", "not yet valid"),
}


@dataclass(frozen=True)
class Journey:
    """A caller's sidecar with a listener for each forged far end, behind which stands the sound one."""

    web: Sidecar
    far_ends: dict[str, tuple[FarEnd, Case]]


@pytest.fixture(scope="module")
def journey(shared_stage: Stage, house: House) -> Journey:
    far_ends = {}
    for name in FAR_ENDS:
        case = CASES[name]()
        renamed = {"uris": tuple(uri.replace("/web", "/api") for uri in case.forged.get("uris", (API,)))}
        identity = forged(shared_stage, f"far end, {name}", **(case.forged | renamed))
        far_ends[name] = shared_stage.keep(FarEnd(identity)), case
    sound = house.api.address("api")
    tables = [outbound(slug(name), endpoints=[far.address, sound]) for name, (far, _) in far_ends.items()]
    return Journey(shared_stage.sidecar("web", "".join(tables)), far_ends)


def slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)


@pytest.mark.parametrize("name", FAR_ENDS)
def test_a_far_end_with_it_is_passed_over(house: House, journey: Journey, name: str) -> None:
    """The next endpoint, which is sound, is taken; the forged one hears why, and not a byte of the caller."""
    far, case = journey.far_ends[name]
    phase, detail = FAR_ENDS[name]

    assert exchange(journey.web.address(slug(name)), b"hello") == b"hello"

    failed = journey.web.log.event("upstream_failed", listener=slug(name))
    assert (failed["phase"], failed["endpoint"]) == (phase, far.address)
    assert detail in failed.text("detail")
    assert far.visit().count == 0
    if phase == "handshake":
        assert far.heard == [case.alert]
    house.service.visits.clear()
