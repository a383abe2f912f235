"""What OpenSSL alone keeps for an idle connection: the floor of the memory row.

python -m bench.tls_memory CHAIN KEY BUNDLE

Shakes hands between pairs of TLS ends in memory, both with certificates, and prints the bytes that each end took.
"""

from __future__ import annotations

import gc
import os
import ssl
import sys
from typing import Final

from bench.processes import memory

_PAIRS: Final = 500


def _context(protocol: int, chain: str, key: str, bundle: str) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(bundle)
    context.load_cert_chain(chain, key)
    return context


class _End:
    def __init__(self, context: ssl.SSLContext, *, is_server: bool) -> None:
        self.received, self.sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.received, self.sent, server_side=is_server)

    def step(self) -> None:
        try:
            self.tls.do_handshake()
            self.tls.read(1)
        except ssl.SSLWantReadError:
            return


def _shake_hands(client: _End, server: _End) -> None:
    for _ in range(4):
        client.step()
        server.received.write(client.sent.read())
        server.step()
        client.received.write(server.sent.read())


def main() -> None:
    """Measure and print."""
    files = sys.argv[1:4]
    client, server = (_context(each, *files) for each in (ssl.PROTOCOL_TLS_CLIENT, ssl.PROTOCOL_TLS_SERVER))
    ends: list[_End] = []

    def add(count: int) -> None:
        for _ in range(count):
            two = _End(client, is_server=False), _End(server, is_server=True)
            _shake_hands(*two)
            ends.extend(two)

    add(20)  # what is made once is made before
    gc.collect()
    before, held = memory([os.getpid()]).pss, len(ends)
    add(_PAIRS)
    print((memory([os.getpid()]).pss - before) / (len(ends) - held))


if __name__ == "__main__":
    main()
