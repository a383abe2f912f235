"""The SSLContexts of one identity: made once per change (6 ms), because a trust store cannot shrink."""

from __future__ import annotations

import contextlib
import os
import ssl
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meshproxy.identity.material import Material


class Contexts:
    """One server and one client context for each list of ALPN protocols in use; none: no ALPN extension."""

    def __init__(self, material: Material, partners_pem: bytes = b"") -> None:
        """Make the plain pair at once, so that faulty material shows now and not at the first connection.

        `partners_pem`: roots of other trust domains; for whom each may speak, `identity.peer` judges.
        """
        self._material = material
        self._partners_pem = partners_pem
        self._servers: dict[tuple[str, ...], ssl.SSLContext] = {}
        self._clients: dict[tuple[tuple[str, ...], bool], ssl.SSLContext] = {}
        self._stands_in = False
        pair = self.server(), self.client()
        if material.stand_in_pem and _accept_each_other(*pair):
            self._stands_in = True
            for context in pair:
                self._let_stand_in(context)

    def __repr__(self) -> str:
        return f"<Contexts of {self._material!r} servers={len(self._servers)} clients={len(self._clients)}>"

    def server(self, alpn: tuple[str, ...] = ()) -> ssl.SSLContext:
        """Return the context to terminate TLS with."""
        if alpn not in self._servers:
            context = self._made(ssl.PROTOCOL_TLS_SERVER, alpn)
            # TLS 1.3 resumes by tickets only, and a resumed session skips OpenSSL's look at an expired certificate.
            context.num_tickets = 0
            self._servers[alpn] = context
        return self._servers[alpn]

    def client(self, alpn: tuple[str, ...] = (), *, takes_tls_1_2: bool = False) -> ssl.SSLContext:
        """Return the context to originate TLS with; `takes_tls_1_2` is for a server that knows nothing better."""
        context = self._clients.get((alpn, takes_tls_1_2))
        if context is None:
            context = self._clients[alpn, takes_tls_1_2] = self._made(ssl.PROTOCOL_TLS_CLIENT, alpn)
            if takes_tls_1_2:
                _take_tls_1_2(context)
        return context

    def _made(self, protocol: int, alpn: tuple[str, ...]) -> ssl.SSLContext:
        context = _configured(ssl.SSLContext(protocol), self._material, alpn)
        if self._partners_pem:
            context.load_verify_locations(cadata=self._partners_pem.decode("ascii"))
        if self._stands_in:
            self._let_stand_in(context)
        return context

    def _let_stand_in(self, context: ssl.SSLContext) -> None:
        """Check the root's signature on our intermediate once per rotation, and not for every peer it has signed.

        OpenSSL looks at the times of an anchor too. What it no longer looks at is the root above: its name constraints
        and path length (`ca.svid.stand_in` saw that they say nothing more), its strength and purpose (OpenSSL accepted
        them in our own chain just now) and its time (`IdentityStore.usable` asks before each handshake). A peer that
        another intermediate has signed is followed up to a root as ever.
        """
        context.load_verify_locations(cadata=self._material.stand_in_pem.decode("ascii"))
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _configured(context: ssl.SSLContext, material: Material, alpn: tuple[str, ...]) -> ssl.SSLContext:
    """TLS 1.3, a certificate demanded from the peer, its chain checked by OpenSSL up to our roots.

    The name is not OpenSSL's to check: an SVID carries no DNS name. `identity.peer` judges the leaf, on both sides.
    """
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if alpn:
        context.set_alpn_protocols(list(alpn))
    context.load_verify_locations(cadata=material.roots_pem.decode("ascii"))
    with as_file(material.chain_pem) as chain, as_file(material.key_pem) as key:
        # The key is not sealed any more; without a callback OpenSSL would still prompt a terminal if it were.
        context.load_cert_chain(chain, key, password=lambda: b"")
    return context


def _take_tls_1_2(context: ssl.SSLContext) -> None:
    """Speak TLS 1.2 to a server that offers no more, and of it only what RFC 9325 section 4.2 recommends.

    Never for inbound: there 1.2 would resume by session id past our look at the certificate, and Python cannot turn
    that off. A client resumes nothing it was not told to, and no ticket is asked for; each connection is a whole
    handshake, and its leaf is judged as ever. What 1.2 cannot: it shows our certificate in clear, before we have judged
    the server's.
    """
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION


def _accept_each_other(server: ssl.SSLContext, client: ssl.SSLContext) -> bool:
    """Whether OpenSSL, shown our own chain as a client's and as a server's, accepts it up to the root."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True))
    try:
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
        for end in ends:
            end.do_handshake()
    except ssl.SSLError:
        return False
    return True


@contextlib.contextmanager
def as_file(content: bytes) -> Iterator[str]:
    """A path for `ssl`, which loads from paths only: what was judged is what is loaded, and a key stays in memory."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        with os.fdopen(os.memfd_create("pem"), "wb") as file:
            file.write(content)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
        return
    with tempfile.NamedTemporaryFile() as file:  # mode 0600
        file.write(content)
        file.flush()
        yield file.name
