"""Where a sidecar is asked how it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from meshproxy.admin.server import AdminServer
from meshproxy.wire.listen import bind, bound_address, close_listener

if TYPE_CHECKING:
    import socket
    from collections.abc import Container, Mapping
    from contextlib import ExitStack

    import trio

    from meshproxy.admin.answers import Action, Inquiry, Order, View
    from meshproxy.admin.server import Upgrade
    from meshproxy.settings.schema import AdminSettings
    from meshproxy.wire.address import Address
    from meshproxy.wire.inherited import Inheritance

ADMIN: Final = "admin"
PUBLIC: Final = "public"
_MODE: Final = 0o660  # of a unix socket's file


@dataclass(slots=True)
class Reception:
    """The admin sockets, bound: the full one, and perhaps one for everybody."""

    settings: AdminSettings
    admin: socket.socket
    public: socket.socket | None
    lent: frozenset[socket.socket] = frozenset()  # somebody else answers for their files
    _servers: list[AdminServer] = field(default_factory=list, repr=False)

    @classmethod
    def open(cls, settings: AdminSettings, sockets: ExitStack, inherited: Inheritance) -> Reception:
        """Bind, or claim what was inherited; `sockets` closes. Raises StartError."""
        lent: set[socket.socket] = set()

        def listen(name: str, address: Address) -> socket.socket:
            listener = inherited.claim({name}, address, mode=_MODE) or bind(address, mode=_MODE)
            if is_lent := inherited.lends(bound_address(listener)):
                lent.add(listener)
            sockets.callback(close_listener, listener, keep_file=is_lent)
            return listener

        admin = listen(ADMIN, settings.listen)
        public = listen(PUBLIC, settings.public_listen) if settings.public_listen else None
        return cls(settings, admin, public, frozenset(lent))

    @property
    def address(self) -> Address:
        """Where the full one really listens."""
        return bound_address(self.admin)

    @property
    def listeners(self) -> dict[str, socket.socket]:
        """The open ones, by what they are called."""
        named = {ADMIN: self.admin, PUBLIC: self.public}
        return {name: each for name, each in named.items() if each is not None and each.fileno() >= 0}

    def serve(
        self,
        nursery: trio.Nursery,
        views: Mapping[str, View | Inquiry],
        public_views: Mapping[str, View | Inquiry],
        actions: Mapping[str, Action | Order],
        upgrades: Mapping[str, Upgrade],
    ) -> None:
        """Answer from now on."""
        full = AdminServer(self.admin, self.settings.listen, views, actions, check_host=True, upgrades=upgrades)
        self._servers.append(full)
        if self.public is not None and self.settings.public_listen is not None:
            public = AdminServer(self.public, self.settings.public_listen, public_views, {}, check_host=False)
            self._servers.append(public)
        for server in self._servers:
            nursery.start_soon(server.run)

    def hand_over(self, taken: Container[str]) -> None:
        """Answer nobody new: another process does, where it has taken the socket. Who has asked is answered."""
        for server in self._servers:
            server.accepting.cancel()
        for name, listener in self.listeners.items():
            close_listener(listener, keep_file=name in taken or listener in self.lent)
