"""The doors of a CA: bounded in number, in time, and for each address; a desk that fails answers all the same."""

from __future__ import annotations

import shutil
import socket
import ssl
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest
import trio

from ca import granting, premises, rotation
from ca.configuration import Rates
from ca.events import What
from ca.ledger import LedgerBusy, LedgerError
from ca.messages import Nonce, Refusal, Trust
from meshproxy.enroll.account import Account
from meshproxy.enroll.books import Books
from meshproxy.enroll.exchange import Answer, Request, ask
from meshproxy.enroll.figures import Figures
from meshproxy.enroll.housekeeping import Housekeeper
from meshproxy.enroll.office import Office
from meshproxy.enroll.own_leaf import ServerNames
from meshproxy.enroll.rates import Gate
from meshproxy.enroll.service import Desk
from meshproxy.wire.address import TcpAddress
from meshproxy.wire.listen import bind, bound_address, close_listener
from meshproxy.wire.stream import StreamBroken, TlsStream
from meshproxy.wire.sweep import Sweeper
from meshproxy.wire.tls import TlsConnection
from tests.ca.conftest import no_power_fails
from tests.factory import MeshCa, make_mesh_ca
from tests.hearing import Heard, listening_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from trio.testing import MockClock

    from ca.sqlite_ledger import SqliteLedger
    from tests.factory import Identity

__all__ = ["no_power_fails"]

HOST = "127.0.0.1"


def wall() -> datetime:
    return datetime.now(UTC)


@dataclass
class House:
    """A CA's rooms, wired in this process."""

    mesh: MeshCa
    heard: Heard
    desk: Desk
    office: Office
    books: Books
    sweeper: Sweeper
    listener: socket.socket = field(default_factory=lambda: bind(TcpAddress(HOST, 0)))

    @property
    def port(self) -> int:
        address = bound_address(self.listener)
        assert isinstance(address, TcpAddress)
        return address.port

    def knock(self, *, as_: str = HOST) -> socket.socket:
        sock = socket.create_connection((HOST, self.port), source_address=(as_, 0))
        sock.setblocking(False)
        return sock

    async def ask(self, request: Request, identity: Identity | None = None) -> Answer:
        """Ask as a client does; with a certificate if one is given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self.mesh.authority.bundle_pem.decode())
        if identity is not None:
            context.load_cert_chain(identity.chain, identity.key)
        tls = TlsConnection(self.knock(), context, server_side=False)
        stream = TlsStream(tls)
        try:
            await tls.handshake(self.sweeper, within=5)
            return await ask(stream, request, host="ca.test", most=100_000)
        finally:
            stream.abort()


async def until(question: Callable[[], bool]) -> None:
    """What another task does in its time."""
    while not question():  # noqa: ASYNC110 - the office tells nobody
        await trio.sleep(0.1)


@pytest.fixture
async def house(tmp_path: Path, nursery: trio.Nursery) -> AsyncIterator[House]:
    mesh = make_mesh_ca(tmp_path)
    log, heard = listening_log()
    with premises.ledger_of(mesh.directory, patience=0.1) as ledger:
        account = Account(log, Figures(), clock=trio.current_time)
        books = Books(mesh.directory, mesh.authority.configuration, ledger, passphrase=None, wall=wall)
        housekeeper = Housekeeper(books, ServerNames(), account)
        await housekeeper.begin()
        gate = Gate(Rates(enrol_per_address=100, enrol_burst_per_address=100))
        desk = Desk(books, gate, account, wall=wall, clock=trio.current_time)
        sweeper = Sweeper()
        office = Office(desk, housekeeper.context, sweeper, account, most=4, most_per_address=3)
        made = House(mesh, heard, desk, office, books, sweeper)
        await nursery.start(sweeper.run)
        nursery.start_soon(office.serve, made.listener, nursery)
        yield made
        nursery.cancel_scope.cancel()
        close_listener(made.listener)


async def test_who_says_nothing_is_gone_after_ten_seconds(house: House, settling_clock: MockClock) -> None:
    with closing(house.knock()) as silent:
        await until(lambda: house.office.open == 1)
        begun = trio.current_time()
        await until(lambda: house.office.open == 0)
        assert 9.9 < trio.current_time() - begun < 11
        with pytest.raises(ConnectionResetError):
            silent.recv(1)
    (told,) = house.heard.named("handshake_failed")
    assert told["reason"] == "timeout"


async def test_who_asks_slowly_is_gone_after_ten_seconds(house: House, settling_clock: MockClock) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=house.mesh.authority.bundle_pem.decode())
    tls = TlsConnection(house.knock(), context, server_side=False)
    stream = TlsStream(tls)
    await tls.handshake(house.sweeper, within=5)
    begun = trio.current_time()
    with suppress(Exception):
        for letter in b"GET /v1/bundle HTTP/1.1\r\n":
            await stream.send(bytes([letter]))
            await trio.sleep(1)
    await until(lambda: house.office.open == 0)
    assert 9 < trio.current_time() - begun < 13
    stream.abort()


async def test_one_address_leaves_room_for_others_and_all_together_are_bounded(house: House) -> None:
    crowd = [house.knock() for _ in range(5)]
    await until(lambda: len(house.heard.named("connection_refused")) == 2)
    assert house.office.open == 3
    assert {each["reason"] for each in house.heard.named("connection_refused")} == {"max_per_address"}
    crowd += [house.knock(as_="127.0.0.2") for _ in range(2)]
    await until(lambda: len(house.heard.named("connection_refused")) == 3)
    assert house.office.open == 4
    assert house.heard.named("connection_refused")[2]["reason"] == "max_connections"
    for sock in crowd:
        sock.close()
    await until(lambda: house.office.open == 0)
    assert house.office._open == {}  # nothing is kept of who is gone
    assert (await house.ask(Request(b"GET", b"/v1/bundle"))).status == 200


async def test_documents_are_there_for_everybody(house: House) -> None:
    trust = msgspec.json.decode((await house.ask(Request(b"GET", b"/v1/trust"))).body, type=Trust)
    assert trust.bundle.encode() == (await house.ask(Request(b"GET", b"/v1/bundle"))).body
    nonces = [msgspec.json.decode((await house.ask(Request(b"GET", b"/v1/nonce"))).body, type=Nonce) for _ in range(2)]
    assert nonces[0] != nonces[1]
    assert (await house.ask(Request(b"GET", b"/v1/crl"))).body.startswith(b"-----BEGIN X509 CRL-----")


async def test_who_has_it_all_is_told_so_and_no_more(house: House, tmp_path: Path) -> None:
    trust = msgspec.json.decode((await house.ask(Request(b"GET", b"/v1/trust"))).body, type=Trust)
    have = b"have=" + trust.digest.encode()
    answer = await house.ask(Request(b"GET", b"/v1/trust", have))
    assert (answer.status, answer.body) == (304, b"")
    web = house.mesh.issue("/web", into=tmp_path / "web")
    assert (await house.ask(Request(b"GET", b"/v1/trust", b"loaded=1&" + have), web)).status == 304
    with premises.ledger_of(house.mesh.directory) as ledger, ledger.reading() as view:
        assert list(view.reported().values()) == [1]
    other = await house.ask(Request(b"GET", b"/v1/trust", b"have=" + b"0" * 64))
    assert msgspec.json.decode(other.body, type=Trust) == trust
    for query in (b"have=0", b"loaded=1have=" + b"0" * 64, b"&" + have, have + b"&loaded=1", b"loaded=1&"):
        assert (await house.ask(Request(b"GET", b"/v1/trust", query))).status == 400


async def test_what_is_loaded_is_noted_of_who_is_ours(house: House, tmp_path: Path) -> None:
    web = house.mesh.issue("/web", into=tmp_path / "web")
    answer = await house.ask(Request(b"GET", b"/v1/trust", b"loaded=1"), web)
    assert answer.status == 200
    reported = await house.books.read(lambda ledger, _now: granting.report(ledger, web.der, 0))
    assert reported
    with premises.ledger_of(house.mesh.directory) as ledger, ledger.reading() as view:
        assert list(view.reported().values()) == [1]
    rotation.prepare(house.mesh.directory, ledger_of_house(house), What.ROOT, passphrase=None, now=wall())
    for number in (b"1", b"2", b"2", b"900"):  # a number beyond what was published is not believed, now or later
        await house.ask(Request(b"GET", b"/v1/trust", b"loaded=" + number), web)
    with premises.ledger_of(house.mesh.directory) as ledger, ledger.reading() as view:
        assert list(view.reported().values()) == [2]


def ledger_of_house(house: House) -> SqliteLedger:
    return house.books._ledger


async def test_a_bug_is_told_and_ends_one_connection_only(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def stumble(_request: Request, _peer: object) -> Answer:
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr(house.desk, "answer", stumble)
        with pytest.raises(StreamBroken):
            await house.ask(Request(b"GET", b"/v1/bundle"))
    assert house.heard.named("internal_error")
    assert (await house.ask(Request(b"GET", b"/v1/bundle"))).status == 200


async def test_whose_turn_does_not_come_is_told_to_come_back(
    house: House, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    hanging, going_on = trio.Event(), trio.Event()

    async def hang() -> None:
        async with house.books._turn:  # as a disk that hangs does
            hanging.set()
            await going_on.wait()

    nursery.start_soon(hang)
    await hanging.wait()
    with pytest.raises(LedgerBusy, match="nothing was recorded or issued"):
        await house.books.read(lambda _ledger, _now: None)
    going_on.set()
    assert await house.books.read(lambda _ledger, _now: 7) == 7


async def test_a_refusal_is_a_problem_as_rfc_9457_has_it(house: House) -> None:
    answer = await house.ask(Request(b"POST", b"/v1/renew", b"", b"{}"))
    refusal = msgspec.json.decode(answer.body, type=Refusal)
    assert (answer.status, refusal.status, refusal.why) == (401, 401, "no_certificate")
    assert (await house.ask(Request(b"HEAD", b"/v1/bundle"))).body == b""


async def test_a_ca_whose_directory_was_taken_away_gives_nothing_until_it_is_back(house: House) -> None:
    """What is written into a ledger that nobody will ever open again was never written."""
    place = house.mesh.directory
    aside = place.with_name("aside")
    assert await house.books.read(lambda _ledger, _now: 1) == 1
    place.rename(aside)
    with pytest.raises(LedgerError, match="was moved, removed or replaced while it is served"):
        await house.books.read(lambda _ledger, _now: 1)
    shutil.copytree(aside, place)  # as a backup that was put in its place
    with pytest.raises(LedgerError, match="restart the CA"):
        await house.books.read(lambda _ledger, _now: 1)
    shutil.rmtree(place)
    aside.rename(place)
    assert await house.books.read(lambda _ledger, _now: 1) == 1
