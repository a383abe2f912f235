"""A CA that serves: everything bound, opened and started so that nothing is left half done, and ended again."""

from __future__ import annotations

import gc
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from ca import premises
from ca.ledger import LedgerError
from ca.lifetime import LifetimeError
from ca.occupancy import OccupiedError, sole
from ca.premises import AuthorityError
from meshproxy.admin.server import AdminServer
from meshproxy.enroll.account import Account
from meshproxy.enroll.books import PATIENCE, Books, read_again
from meshproxy.enroll.figures import Figures
from meshproxy.enroll.housekeeping import Housekeeper
from meshproxy.enroll.office import Office
from meshproxy.enroll.partners import Correspondent, Partners
from meshproxy.enroll.rates import Gate
from meshproxy.enroll.service import Desk
from meshproxy.errors import StartError
from meshproxy.runtime.authority_views import AuthorityViews
from meshproxy.runtime.origin import Origin
from meshproxy.runtime.signals import follow_signals
from meshproxy.runtime.telling import wall_clock
from meshproxy.wire.address import TcpAddress, host_and_port
from meshproxy.wire.listen import bind, bound_address, close_listener
from meshproxy.wire.sweep import Sweeper
from meshproxy.wire.threads import in_thread

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from ca.sqlite_ledger import SqliteLedger
    from meshproxy.enroll.own_leaf import ServerNames
    from meshproxy.runtime.telling import Telling
    from meshproxy.wire.address import Address
    from meshproxy.wire.inherited import Inheritance

_SERVING: Final = "serving"
_MODE: Final = 0o660  # of a unix socket's file
_LAST_WORDS: Final = (
    30.0  # seconds for who is being served when the end comes; each has deadlines of its own below that
)


@dataclass(frozen=True, slots=True)
class AuthorityPlan:
    """What `meshproxy ca serve` was told."""

    directory: Path
    listen: tuple[TcpAddress, ...]
    admin: Address
    names: ServerNames
    passphrase: bytes | None = field(repr=False)


async def run_authority(plan: AuthorityPlan, telling: Telling, origin: Origin | None = None) -> bool:
    """Serve until a signal ends it. Returns whether nobody was cut off.

    Sockets that a service manager passes are called `ca` and `admin`, or are found by their address.

    Raises StartError: somebody else serves the directory, an address is in use, the CA cannot be opened or cannot issue
    itself a certificate.
    """
    origin = origin or Origin()
    with ExitStack() as stack:
        try:
            held = stack.enter_context(sole(plan.directory))
            ledger = stack.enter_context(premises.ledger_of(plan.directory, patience=PATIENCE))
            listeners = [_bound(address, stack, origin.inherited, "ca") for address in plan.listen]
            admin = _bound(plan.admin, stack, origin.inherited, "admin")
            served = _Served(plan, telling, ledger, origin)
            await served.housekeeper.begin()
            held.tell(_reachable(plan, listeners))
        except (OccupiedError, AuthorityError, LedgerError, LifetimeError) as error:
            raise StartError(str(error)) from error
        except OSError as error:
            raise StartError(f"{plan.directory}: {error.strerror or error}") from error
        return await served.run(listeners, admin)


class _Served:
    """Everything that serves, wired."""

    def __init__(self, plan: AuthorityPlan, telling: Telling, ledger: SqliteLedger, origin: Origin) -> None:
        self._plan = plan
        self._origin = origin
        self._log = telling.log
        self._configured = premises.read_configuration(plan.directory)
        figures = Figures()
        account = self._account = Account(telling.log, figures, clock=trio.current_time)
        books = self._books = Books(
            plan.directory,
            self._configured,
            ledger,
            passphrase=plan.passphrase,
            wall=wall_clock,
            observe=figures.ledger_seconds.observe,
        )
        self.housekeeper = Housekeeper(books, plan.names, account)
        self._desk = Desk(books, Gate(self._configured.rates), account, wall=wall_clock, clock=trio.current_time)
        self._sweeper = Sweeper()
        self._office = Office(self._desk, self.housekeeper.context, self._sweeper, account)
        self._partners = Partners(
            plan.directory,
            self._configured.trust_domain,
            Correspondent(self._sweeper, wall=wall_clock),
            account,
            wall=wall_clock,
        )
        self._views = AuthorityViews(books, self.housekeeper, self._office, account, telling.writer, wall=wall_clock)

    async def run(self, listeners: list[socket.socket], admin: socket.socket) -> bool:
        """Serve, then end: who was accepted is served, nobody else."""
        stopping = trio.Event()
        nothing_cut = False
        async with trio.open_nursery() as nursery:

            def reload() -> None:
                nursery.start_soon(self._reload)

            await nursery.start(self._sweeper.run)
            await nursery.start(follow_signals, stopping, reload, nursery.cancel_scope.cancel, self._log)
            nursery.start_soon(self.housekeeper.run)
            nursery.start_soon(self._partners.run)
            places = [str(bound_address(each)) for each in listeners]
            self._views.listeners = tuple(places)
            nursery.start_soon(AdminServer(admin, self._plan.admin, self._views.all(), {}, check_host=True).run)
            gc.collect()
            gc.freeze()
            self._log.info(
                "started",
                dir=str(self._plan.directory),
                trust_domain=self._configured.trust_domain.name,
                listeners={"ca": places[0]}
                if len(places) == 1
                else {f"ca-{n}": each for n, each in enumerate(places, 1)},
                admin=str(bound_address(admin)),
            )
            await self._origin.serves(self._log, _SERVING)
            nursery.start_soon(self._origin.manager.beat)
            nothing_cut = await self._serve(listeners, stopping)
            await self.housekeeper.finish()
            nursery.cancel_scope.cancel()
        self._log.info("stopped", nothing_cut=nothing_cut)
        return nothing_cut

    async def _serve(self, listeners: list[socket.socket], stopping: trio.Event) -> bool:
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as doors:
                for listener in listeners:
                    doors.start_soon(self._office.serve, listener, connections)
                await stopping.wait()
                self._origin.manager.stopping("draining", within=_LAST_WORDS)
                self._views.draining = True
                doors.cancel_scope.cancel()
            for listener in listeners:
                self._office.take_waiting(listener, connections)
                close_listener(listener, keep_file=True)  # a TCP socket has none
            connections.cancel_scope.deadline = trio.current_time() + _LAST_WORDS
        return not connections.cancel_scope.cancelled_caught

    async def _reload(self) -> None:
        """Read ca.toml again; a faulty one changes nothing."""
        with self._origin.manager.reloading(lambda: _SERVING):
            await self._read_again()

    async def _read_again(self) -> None:
        reloads = self._account.figures.reloads
        try:
            found = await in_thread(read_again, self._plan.directory, self._configured)
        except (AuthorityError, OSError) as error:
            reloads.labels("failed").inc()
            self._log.error("reload_failed", error=str(error), effect="the last good ca.toml is kept")
            return
        self._configured = found
        self._books.configure(found)
        self._desk.gate = Gate(found.rates)
        self.housekeeper.look_soon()
        reloads.labels("done").inc()
        self._log.info("reloaded", file=str(self._plan.directory / premises.CONFIGURATION))


def _bound(address: Address, stack: ExitStack, inherited: Inheritance, name: str) -> socket.socket:
    listener = inherited.claim({name}, address, mode=_MODE) or bind(address, mode=_MODE)
    stack.callback(close_listener, listener, keep_file=inherited.lends(bound_address(listener)))
    return listener


def _reachable(plan: AuthorityPlan, listeners: list[socket.socket]) -> list[str]:
    """Where others find it, as far as it knows: the names it was given, and addresses that are no wildcard."""
    found = []
    for listener in listeners:
        address = bound_address(listener)
        if not isinstance(address, TcpAddress):
            continue
        if address.ip is not None and address.ip.is_unspecified:
            called = (*plan.names.dns, *map(str, plan.names.ips))
        else:
            called = (*plan.names.dns, address.host)
        found += [host_and_port(name, address.port) for name in called]
    return list(dict.fromkeys(found))[:8]  # a token holds no more
