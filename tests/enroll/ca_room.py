"""A CA on a loopback port for the rooms of the client: its decisions are `ca.granting`'s, its wire is ours.

    room = await CaRoom.open(nursery, tmp_path)
    token = room.invite("/web")
    room.mood = Mood.LOSE_ANSWER                       # it commits, and hangs up

What it was asked is in `room.asked`. It is no server one would run: one request after another, in the event loop.
"""

from __future__ import annotations

import hashlib
import ssl
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING

import msgspec
import trio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from ca import granting, invitations, messages, premises, publishing, slots
from ca.authority import open_authority
from ca.invitations import Invitation
from ca.issuing import issue_own
from ca.profiles import Names
from ca.refusals import Refused
from ca.rows import BUNDLE, sequence
from ca.spiffe_bundle import SpiffeBundle
from ca.spiffe_bundle import write as write_bundle
from ca.svid import read_certificate
from meshproxy.enroll.exchange import JSON, PROBLEM, Answer, Request, read_request, send_answer
from meshproxy.identity.contexts import as_file
from meshproxy.wire.address import TcpAddress
from meshproxy.wire.listen import accept_forever, bind, bound_address, close_listener
from meshproxy.wire.stream import StreamBroken, TlsStream
from meshproxy.wire.sweep import Sweeper
from meshproxy.wire.tls import TlsConnection
from meshproxy.wire.tls_faults import HandshakeError
from tests.factory import MeshCa, make_mesh_ca

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from ca.authority import Authority
    from ca.granting import Granted
    from ca.sqlite_ledger import SqliteLedger
    from ca.tokens import JoinToken

PEER = "10.0.0.7:4431"


class Mood(Enum):
    """What the CA does with whoever asks for a certificate."""

    KIND = auto()
    LOSE_ANSWER = auto()  # it commits, and the answer never arrives
    SILENT = auto()
    BUSY = auto()  # 503
    BABBLING = auto()  # an answer nobody can read


@dataclass
class CaRoom:
    mesh: MeshCa
    ledger: SqliteLedger
    listener: socket.socket
    context: ssl.SSLContext
    wall: list[datetime]
    stack: ExitStack
    mood: Mood = Mood.KIND
    asked: list[Request] = field(default_factory=list)
    connections: int = 0
    loaded: list[str] = field(default_factory=list)
    unchanged: int = 0  # polls that were answered by 304
    sequence_off_by: int = 0
    nonce: bytes = b"n" * 32
    serving: trio.CancelScope = field(default_factory=trio.CancelScope)

    @classmethod
    async def open(cls, nursery: trio.Nursery, workspace: Path, *, mesh: MeshCa | None = None) -> CaRoom:
        mesh = mesh or make_mesh_ca(workspace)
        stack = ExitStack()
        ledger = stack.enter_context(premises.ledger_of(mesh.directory))
        now = datetime.now(UTC)
        publishing.publish_revocations(mesh.authority, ledger, now=now)
        own = issue_own(mesh.authority, ledger, messages.SERVICE_PATH, now=now)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.num_tickets = 0
        context.verify_mode = ssl.CERT_OPTIONAL
        context.load_verify_locations(cadata=mesh.authority.bundle_pem.decode())
        with as_file(own.chain_pem) as chain, as_file(own.key_pem) as key:
            context.load_cert_chain(chain, key)
        listener = bind(TcpAddress("127.0.0.1", 0))
        room = cls(mesh, ledger, listener, context, [], stack)

        def take(sock: socket.socket, _peer: str) -> None:
            nursery.start_soon(room._attend, sock)

        async def serve() -> None:
            try:
                with room.serving:
                    await accept_forever(listener, take, lambda _error: None)
            finally:
                close_listener(listener)

        nursery.start_soon(serve)
        return room

    @property
    def address(self) -> TcpAddress:
        address = bound_address(self.listener)
        assert isinstance(address, TcpAddress)
        return address

    @property
    def now(self) -> datetime:
        return self.wall[0] if self.wall else datetime.now(UTC)

    @property
    def authority(self) -> Authority:
        """As the ledger and ca.toml have it now."""
        return open_authority(self.mesh.directory, passphrase=None)

    def invite(self, path: str = "/web", *, uses: int = 1, leaf_ttl: timedelta | None = None) -> JoinToken:
        names = Names(self.mesh.id(path), ("web.internal",), ())
        invitation = Invitation(names, timedelta(minutes=10), uses, leaf_ttl, (str(self.address),))
        return invitations.create(self.authority.configuration, self.ledger, invitation, now=self.now)

    def close(self) -> None:
        self.serving.cancel()
        self.stack.close()

    def paths(self) -> list[bytes]:
        return [each.path for each in self.asked]

    async def _attend(self, sock: socket.socket) -> None:
        self.connections += 1
        tls = TlsConnection(sock, self.context, server_side=True)
        try:
            await tls.handshake(Sweeper(), within=1000.0)
        except HandshakeError:
            sock.close()
            return
        except BaseException:
            sock.close()
            raise
        stream = TlsStream(tls)
        try:
            request = await read_request(stream, most=64 * 1024)
            if request is not None:
                await self._answer(stream, tls, request)
        except StreamBroken:
            pass
        finally:
            stream.abort()

    async def _answer(self, stream: TlsStream, tls: TlsConnection, request: Request) -> None:
        self.asked.append(request)
        certifies = request.path in {messages.ENROL, messages.RENEW, messages.RENEW_EXPIRED}
        if certifies and self.mood is Mood.SILENT:
            await trio.sleep(1000)
        answer = self._decide(request, tls.peer_certificate)
        if certifies and self.mood is Mood.LOSE_ANSWER:
            return
        if certifies and self.mood is Mood.BUSY:
            answer = refusal("the ledger is locked", 503, messages.Trouble.UNAVAILABLE, 2.0)
        if certifies and self.mood is Mood.BABBLING:
            answer = Answer(200, JSON, b"<html>")
        await send_answer(stream, answer, to=request.method)
        await stream.close()

    def _decide(self, request: Request, leaf: bytes | None) -> Answer:  # noqa: PLR0911 - one for each question
        match request.path:
            case messages.BUNDLE:
                return Answer(200, JSON, self.bundle().encode())
            case messages.TRUST:
                asked = dict(each.split("=") for each in request.query.decode().split("&") if each)
                if leaf is not None and "loaded" in asked:
                    self.loaded.append(f"loaded={asked['loaded']}")
                    granting.report(self.ledger, leaf, int(asked["loaded"]))
                if asked.get("have") == self.trust().digest:
                    self.unchanged += 1
                    return Answer(304, JSON, b"")
                return Answer(200, JSON, msgspec.json.encode(self.trust()))
            case messages.NONCE:
                return Answer(200, JSON, msgspec.json.encode(messages.Nonce(self.nonce)))
            case messages.ENROL:
                asked = msgspec.json.decode(request.body, type=messages.EnrolRequest)
                attempt = granting.Enrolment(asked.token, asked.secret, asked.csr, PEER)
                return self._certified(granting.enrol(self.authority, self.ledger, attempt, now=self.now))
            case messages.RENEW if leaf is not None:
                renewal = msgspec.json.decode(request.body, type=messages.RenewRequest)
                return self._renewed(leaf, renewal.csr)
            case messages.RENEW_EXPIRED:
                late = msgspec.json.decode(request.body, type=messages.LateRenewRequest)
                key = read_certificate(late.leaf).public_key()
                assert isinstance(key, ec.EllipticCurvePublicKey)
                said = messages.LATE_CONTEXT + hashlib.sha256(late.nonce).digest() + hashlib.sha256(late.csr).digest()
                key.verify(late.signature, said, ec.ECDSA(hashes.SHA256()))
                assert late.nonce == self.nonce
                return self._renewed(late.leaf, late.csr)
        return refusal("no such thing", 404, messages.Trouble.BAD_REQUEST)

    def _renewed(self, leaf: bytes, csr: bytes) -> Answer:
        renewal = granting.Renewal(leaf, csr, PEER)
        return self._certified(granting.renew(self.authority, self.ledger, renewal, now=self.now))

    def _certified(self, decided: Granted | Refused) -> Answer:
        if isinstance(decided, Refused):
            return refusal(decided.text, 409, decided.why)
        said = messages.Certified(decided.chain_pem.decode(), self.trust(), decided.again, decided.clamped_by)
        return Answer(200, JSON, msgspec.json.encode(said))

    def trust(self) -> messages.Trust:
        publishing.publish_revocations(self.authority, self.ledger, now=self.now)
        listed = (self.mesh.directory / premises.TRUST / premises.DENY_LIST).read_text()
        return messages.Trust(self.bundle(), listed)

    def bundle(self) -> str:
        with self.ledger.reading() as view:
            number = sequence(view, BUNDLE) + self.sequence_off_by
            return write_bundle(SpiffeBundle(slots.roots(view), number, 30)).decode()


def refusal(title: str, status: int, why: str, retry_after: float | None = None) -> Answer:
    said = messages.Refusal(title, status, why, retry_after)
    return Answer(status, PROBLEM, msgspec.json.encode(said))
