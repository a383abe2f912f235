"""What a driven HTTP connection says to either side: what the machine made of it, and bodies as they come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshproxy.inbound.machinery import clock
from meshproxy.inbound.pump_ends import Ends
from meshproxy.wire.channel import ChannelBroken

if TYPE_CHECKING:
    from meshproxy.wire.channel import Channel


class Says(Ends):
    """See the module; part of the `Pump`."""

    def _send_upstream(self, now: float) -> None:
        parts = tuple(self.relay.to_upstream)
        self.relay.to_upstream.clear()
        if self.up is None:
            return
        try:
            self.up.channel.send_all(parts)
        except ChannelBroken as broken:
            self.relay.upstream_lost(str(broken), now)

    def _send_downstream(self, now: float) -> None:
        parts = tuple(self.relay.to_downstream)
        self.relay.to_downstream.clear()
        try:
            self.down.send_all(parts)
        except ChannelBroken as broken:
            self.relay.downstream_lost(str(broken), now)

    # The short ways of a long body: it is read, counted, and passed on from where it lies. Both return what is to be
    # fed, and raise ChannelBroken if it cannot be read.

    def _carry(self) -> bytes:
        """Pass to the upstream what the caller's body consists of, if that is all there is to do about it."""
        body = self.down.look(None if self.up is None else self.up.channel.sock)
        if self.up is None or not self.relay.pass_request(len(body)):
            return bytes(body)
        self._deadlines.moved += len(body)
        try:
            self.up.channel.send(body)
        except ChannelBroken as broken:
            self.relay.upstream_lost(str(broken), clock())
        return b""

    def _pass_back(self, upstream: Channel) -> bytes:
        """As `_carry`, of the answer, to the caller."""
        body = upstream.look(self.down.sock)
        if not self.relay.pass_answer(len(body)):
            return bytes(body)
        self._deadlines.moved += len(body)
        try:
            self.down.send(body)
        except ChannelBroken as broken:
            self.relay.downstream_lost(str(broken), clock())
        return b""
