"""Which users of this machine may use an outbound listener: asked of the kernel, on unix sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshproxy.wire.closing import reset
from meshproxy.wire.listen import peer_uid

if TYPE_CHECKING:
    import socket

    from meshproxy.inbound.visit import Visit
    from meshproxy.settings.schema import Outbound
    from meshproxy.telemetry.record import Recorder


def is_caller_allowed(sock: socket.socket, settings: Outbound, visit: Visit, recorder: Recorder) -> bool:
    """Whether the local caller may use this listener; one that may not is reset and told by then."""
    allowed = settings.allow_uids
    if allowed is None:
        return True
    uid = peer_uid(sock)
    if uid in allowed:
        return True
    recorder.refused(
        visit.listener,
        "uid",
        peer=visit.peer,
        remedy=f"user {uid} may not use this socket; allow_uids has {sorted(allowed)}",
    )
    reset(sock)
    return False
