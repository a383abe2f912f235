"""Issuance: certificates by token and by renewal, through the CA's own rooms with its ledger on disk, and over TLS."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import ssl
import sys
import tempfile
import threading
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from bench.backend import PYTHONPATH
from bench.processes import BenchError, cpu_time, free_port
from bench.results import Block, Must
from ca import granting, invitations, issuing, keys, premises
from ca.authority import open_authority
from ca.granting import Enrolment, Granted, Renewal
from ca.invitations import Invitation
from ca.issuing import SvidRequest
from ca.profiles import Names
from ca.spiffe_id import SpiffeId

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec

    from bench.contest import Contest, Sample
    from bench.processes import Process
    from bench.stage import Stage
    from ca.authority import Authority
    from ca.issuing import Svid
    from ca.refusals import Refused
    from ca.sqlite_ledger import SqliteLedger

_EACH: Final = 100  # certificates in one turn in process
_CLIENTS: Final = 16
_CPU: Final = "cpu"
_PER_SECOND: Final = "certificates/s"
_NETWORK: Final = "renew over TLS"
_MUSTS: Final = (Must(20.0, 5.0),)
_RATES: Final = "\n[rates]\nrenew_per_identity_per_minute = 1000000\nrenew_total = 100000\n"


@dataclass(frozen=True, slots=True)
class IssuanceRow:
    """What a certificate takes. Over TLS each is a connection with a full handshake, as it is for sidecars."""

    name: str
    title: str

    def run(self, contest: Contest) -> list[Block]:
        """Measure them in turns; what is in process is on the proxies' core too."""
        with contest.stage() as stage:
            directory = stage.directory / "ca"
            with (directory / premises.CONFIGURATION).open("a") as file:
                file.write(_RATES)
            authority = open_authority(directory, passphrase=None)
            clients = [_Client.invite(authority, number) for number in range(_CLIENTS)]
            port = free_port()
            server = _serve(stage, port)
            with premises.ledger_of(directory) as ledger:
                samples = contest.take_turns(
                    {
                        _NETWORK: partial(_over_tls, server, port, clients, stage.options.seconds),
                        "enrol in process": partial(_in_process, contest, authority, ledger, _enrolments),
                        "renew in process": partial(_in_process, contest, authority, ledger, _renewals),
                    }
                )
        cpu = samples.pop(_CPU)
        return [Block(self.name, self.title, "ms of CPU/certificate", _NETWORK, cpu, musts=_MUSTS, also=samples)]


def _in_process(
    contest: Contest,
    authority: Authority,
    ledger: SqliteLedger,
    prepare: Callable[[Authority, SqliteLedger], list[Callable[[], Granted | Refused]]],
) -> Sample:
    os.sched_setaffinity(0, {contest.cores.proxies})
    try:
        asked = prepare(authority, ledger)
        used, begun = time.process_time(), time.perf_counter()
        answers = [each() for each in asked]
        used, lasted = time.process_time() - used, time.perf_counter() - begun
    finally:
        os.sched_setaffinity(0, {contest.cores.load})
    if not all(isinstance(each, Granted) and not each.again for each in answers):
        raise BenchError("somebody got no certificate")
    return {_CPU: 1e3 * used / len(asked), _PER_SECOND: len(asked) / lasted}


def _enrolments(authority: Authority, ledger: SqliteLedger) -> list[Callable[[], Granted | Refused]]:
    now = _now()
    invitation = Invitation(_names(authority, "/enrolled"))
    invited = [invitations.create(authority.configuration, ledger, invitation, now=now) for _ in range(_EACH)]
    attempts = [Enrolment(each.id.hex(), each.secret, _csr(keys.generate()), "bench:1") for each in invited]
    return [partial(granting.enrol, authority, ledger, each, now=now) for each in attempts]


def _renewals(authority: Authority, ledger: SqliteLedger) -> list[Callable[[], Granted | Refused]]:
    now = _now()
    request = SvidRequest(_names(authority, "/renewed"))
    held = [issuing.issue_svid(authority, request, now=now) for _ in range(_EACH)]
    attempts = [Renewal(each.certificate.public_bytes(Encoding.DER), _csr(keys.generate()), "bench:1") for each in held]
    return [partial(granting.renew, authority, ledger, each, now=now) for each in attempts]


class _Client:
    """Somebody who renews again and again."""

    def __init__(self, svid: Svid) -> None:
        self._roots = svid.bundle_pem.decode()
        self._pem = svid.key_pem + svid.chain_pem

    @classmethod
    def invite(cls, authority: Authority, number: int) -> _Client:
        names = _names(authority, f"/client-{number}")
        return cls(issuing.issue_svid(authority, SvidRequest(names), now=_now()))

    def renew(self, port: int) -> None:
        """Renew once. Raises OSError, HTTPException, BenchError."""
        key = keys.generate()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self._roots)
        with tempfile.NamedTemporaryFile() as file:
            file.write(self._pem)
            file.flush()
            context.load_cert_chain(file.name)
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=30, context=context)
        with contextlib.closing(connection):
            connection.request("POST", "/v1/renew", json.dumps({"csr": b64encode(_csr(key)).decode()}))
            answer = connection.getresponse()
            said = answer.read()
        if answer.status != 200:
            raise BenchError(f"the CA answered {answer.status}: {said[:200]!r}")
        self._pem = keys.to_pem(key, passphrase=None) + json.loads(said)["chain"].encode()


def _over_tls(server: Process, port: int, clients: list[_Client], seconds: int) -> Sample:
    given, lock, end = [0], threading.Lock(), time.monotonic() + seconds

    def renew(client: _Client) -> None:
        while time.monotonic() < end:
            client.renew(port)
            with lock:
                given[0] += 1

    used, begun = cpu_time([server.pid]), time.monotonic()
    with ThreadPoolExecutor(len(clients)) as threads:
        for _ in threads.map(renew, clients):
            pass
    spent, lasted = (cpu_time([server.pid]) - used).total, time.monotonic() - begun
    return {_CPU: 1e3 * spent / given[0], _PER_SECOND: given[0] / lasted}


def _serve(stage: Stage, port: int) -> Process:
    command: list[str | Path] = [sys.executable, "-m", "meshproxy", "ca", "serve", "--dir", stage.directory / "ca"]
    command += ["--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{free_port()}", "--no-passphrase"]
    server = stage.processes.start(command, core=stage.cores.proxies, environment=PYTHONPATH)
    server.wait_until_listening(port)
    return server


def _names(authority: Authority, path: str) -> Names:
    return Names(SpiffeId.of(authority.trust_domain, path))


def _csr(key: ec.EllipticCurvePrivateKey) -> bytes:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.DER)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
