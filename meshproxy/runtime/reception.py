"""Where a sidecar is asked how it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from meshproxy.admin.server import AdminServer
from meshproxy.wire.listen import bind, bound_address, close_listener

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from contextlib import ExitStack

    import trio

    from meshproxy.admin.answers import Action, Inquiry, Order, View
    from meshproxy.settings.schema import AdminSettings
    from meshproxy.wire.address import Address


@dataclass(frozen=True, slots=True)
class Reception:
    """The admin sockets, bound: the full one, and perhaps one for everybody."""

    settings: AdminSettings
    admin: socket.socket
    public: socket.socket | None

    @classmethod
    def open(cls, settings: AdminSettings, sockets: ExitStack) -> Reception:
        """Bind; `sockets` closes. Raises StartError."""

        def listen(address: Address) -> socket.socket:
            listener = bind(address)
            sockets.callback(close_listener, listener)
            return listener

        admin = listen(settings.listen)
        return cls(settings, admin, listen(settings.public_listen) if settings.public_listen else None)

    @property
    def address(self) -> Address:
        """Where the full one really listens."""
        return bound_address(self.admin)

    def serve(
        self,
        nursery: trio.Nursery,
        views: Mapping[str, View | Inquiry],
        public_views: Mapping[str, View | Inquiry],
        actions: Mapping[str, Action | Order],
    ) -> None:
        """Answer from now on."""
        nursery.start_soon(AdminServer(self.admin, self.settings.listen, views, actions, check_host=True).run)
        if self.public is not None and self.settings.public_listen is not None:
            public = AdminServer(self.public, self.settings.public_listen, public_views, {}, check_host=False)
            nursery.start_soon(public.run)
