"""Where to listen or connect: `host:port`, `[v6]:port` or `unix:/path`, parsed once at the border."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

MAX_PORT = 65535
MAX_UNIX_PATH = 107  # sockaddr_un.sun_path is 108 bytes with its NUL (unix(7))

# A name of RFC 1123 section 2.1, underscores allowed because compose and Kubernetes users type them. Labels have 1 to
# 63 characters (RFC 1035 section 2.3.4): for others Python's resolver raises UnicodeError instead of answering.
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_PORT = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host (name or IP literal, without brackets) and a port; port 0 asks the system for a free one."""

    host: str
    port: int

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The host as an IP address, or None when it is a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can be at the other end: a loopback literal, or the name `localhost`."""
        ip = self.ip
        return ip.is_loopback if ip is not None else self.host.lower() == "localhost"

    def __str__(self) -> str:
        return host_and_port(self.host, self.port)


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix stream socket's path."""

    path: str

    @property
    def is_local(self) -> bool:
        """Always: a unix socket never leaves the machine."""
        return True

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


def host_and_port(host: str, port: int) -> str:
    """Write a TCP address as `host:port` or `[v6]:port`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_address(text: str) -> Address:
    """Read `host:port`, `[v6]:port` or `unix:/path`.

    Raises ValueError with a phrase that completes "expected ...", never echoing more than the text it was given.
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path or "\0" in path:
            raise ValueError("a path after `unix:`")
        if len(path.encode()) > MAX_UNIX_PATH:
            raise ValueError(f"a unix socket path of at most {MAX_UNIX_PATH} bytes")
        return UnixAddress(path)
    host, colon, port = text.rpartition(":")
    if not colon or not _PORT.fullmatch(port) or int(port) > MAX_PORT:
        raise ValueError("host:port, [v6]:port or unix:/path, with a port from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        try:
            return TcpAddress(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        except ValueError:
            raise ValueError("an IPv6 address between the brackets") from None
    if ":" in host:
        raise ValueError("an IPv6 address in brackets, as in [::1]:8443")
    if not _HOST_NAME.fullmatch(host):
        raise ValueError("a host name or IP address before the port")
    return TcpAddress(host, int(port))
