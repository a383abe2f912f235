"""The sandbox a sidecar puts itself into: its own files, the TCP ports of its settings, nothing else of the machine.

It is entered before any thread starts and anything is bound, and workers inherit it. Nothing can widen it, so a reload
that needs more has to be refused; a process that takes over has its own.
"""

from __future__ import annotations

import contextlib
import os
import resource
import site
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from meshproxy.errors import StartError
from meshproxy.runtime import landlock
from meshproxy.runtime.landlock import Files, Ports, every
from meshproxy.settings.schema import PolicyDirectory, Sandboxing
from meshproxy.wire.address import TcpAddress, UnixAddress

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from meshproxy.settings.load import Configuration
    from meshproxy.settings.schema import Settings
    from meshproxy.wire.address import Address

_DNS: Final = 53  # an answer too long for a datagram is asked for again over TCP (RFC 7766)

# Read by the interpreter and the C library at any time: modules, time zones, name services, the resolver's settings.
_SYSTEM: Final = tuple(
    map(Path, ("/usr", "/lib", "/lib64", "/etc", "/proc", "/sys/fs/cgroup", "/dev/urandom", "/dev/random"))
) + tuple(map(Path, ("/run/systemd/resolve", "/run/resolvconf", "/run/nscd", "/var/run/nscd", "/nix/store")))
_NOTHING: Final = Path("/dev/null")


@dataclass(frozen=True, slots=True)
class Needs:
    """What a configuration asks of the machine. Directories, without links; ports, 0 being any the system picks."""

    reads: frozenset[Path] = frozenset()
    changes: frozenset[Path] = frozenset()
    sockets: frozenset[Path] = frozenset()
    binds: frozenset[int] = frozenset()
    connects: frozenset[int] = frozenset()

    def beyond(self, granted: Needs) -> tuple[str, ...]:
        """Return in words what of this is not in `granted`."""
        readable = granted.reads | granted.changes | frozenset(_SYSTEM)
        return (
            *(f"files in {each}" for each in sorted(self.reads) if not _within(each, readable)),
            *(f"writing in {each}" for each in sorted(self.changes) if not _within(each, granted.changes)),
            *(f"a unix socket in {each}" for each in sorted(self.sockets) if not _within(each, granted.sockets)),
            *(f"listening on TCP port {each}" for each in sorted(self.binds - granted.binds)),
            *(f"connecting to TCP port {each}" for each in sorted(self.connects - granted.connects)),
        )


@dataclass(frozen=True, slots=True)
class Sandbox:
    """The one this process is in; `kernel` is Landlock's version, 0: it is in none."""

    granted: Needs = Needs()
    kernel: int = 0

    def __str__(self) -> str:
        """Return it as `status` shows it."""
        if not self.kernel:
            return "none"
        ports = "files and TCP ports" if self.kernel >= landlock.PORTS_SINCE else "files"
        return f"landlock {self.kernel}: {ports}"

    def beyond(self, configuration: Configuration) -> tuple[str, ...]:
        """Return in words what a configuration needs that is not to be had in here."""
        return self._missing(needs_of(configuration.settings, configuration.files))

    def unreadable(self, files: Iterable[Path]) -> tuple[str, ...]:
        """Return in words which of these files cannot be read from in here, whatever their modes say."""
        return self._missing(Needs(reads=frozenset(_directories(files))))

    def _missing(self, needs: Needs) -> tuple[str, ...]:
        if not self.kernel:
            return ()
        if self.kernel < landlock.PORTS_SINCE:
            needs = Needs(needs.reads, needs.changes, needs.sockets)
        return needs.beyond(self.granted)


def harden() -> None:
    """Let no program started from here gain privileges, and no crash write our memory to a disk."""
    with contextlib.suppress(OSError):
        landlock.no_new_privileges()
    no_core_dumps()


def no_core_dumps() -> None:
    """Have no crash write our memory, with its keys, to a disk.

    A core limit of 0 does not stop a dump to a program (`core_pattern` with a pipe, core(5)), a limit of 1 stops both:
    it is below the least of any dump, and what the kernel takes for "never" with a pipe. The process stays visible to
    its own user: who is that user can read the key file as well.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    least = 0 if hard == 0 else 1
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (least, least))


def enter(configuration: Configuration, *, workers: int) -> Sandbox:
    """Put this process into the sandbox of a configuration, where the kernel has one. To be called before any thread.

    Raises StartError when the settings require it and there is none.
    """
    settings = configuration.settings
    wanted, kernel = settings.runtime.sandbox, landlock.version()
    if wanted is Sandboxing.OFF:
        return Sandbox()
    if not kernel:
        if wanted is Sandboxing.REQUIRE:
            raise StartError(
                'sandbox = "require", and this kernel has no Landlock, or it is turned off (CONFIG_SECURITY_LANDLOCK,'
                ' lsm=landlock): write sandbox = "auto" to go without'
            )
        return Sandbox()
    if settings.identity.ca:
        with contextlib.suppress(OSError):  # it would be made when the first certificate comes; told then
            settings.identity.dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    granted = needs_of(settings, configuration.files)
    try:
        landlock.restrict_self(_rules(granted, executes=workers > 1), kernel=kernel)
    except OSError as error:
        if wanted is Sandboxing.REQUIRE:
            raise StartError(f'sandbox = "require", and the kernel refuses it: {error.strerror}') from error
        return Sandbox()
    return Sandbox(granted, kernel)


def needs_of(settings: Settings, files: Iterable[Path]) -> Needs:
    """Return what settings ask for; `files` are all that were read."""
    identity = settings.identity
    lists = [each.policy.path for each in settings.inbound if isinstance(each.policy, PolicyDirectory)]
    secrets = [each for each in (identity.passphrase_file, identity.token_file) if each is not None]
    changed = [identity.dir] if identity.ca else []
    written = [] if settings.audit is None else list(_directories([settings.audit.file]))
    listens = [each.listen for each in settings.listeners]
    admin = [each for each in (settings.admin.listen, settings.admin.public_listen) if each is not None]
    to: list[Address] = [each.forward for each in settings.inbound]
    to += [endpoint for each in settings.outbound for endpoint in each.endpoints]
    to += identity.ca
    if settings.tracing is not None:
        to.append(settings.tracing.endpoint.address)
    return Needs(
        # The directory around each as well: that is where names are switched by rename or link.
        reads=frozenset((*_directories([*files, *secrets, identity.dir, *lists]), *_real([identity.dir, *lists]))),
        changes=frozenset(_real(changed)) | frozenset(written),
        sockets=frozenset(_socket_directories([*listens, *admin])),
        binds=frozenset(_ports([*listens, *admin])),
        connects=frozenset(_ports(to)) | {_DNS},
    )


def _rules(needs: Needs, *, executes: bool) -> landlock.Rules:
    python = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, *site.getsitepackages()]
    program = {Path(each).resolve() for each in python if each} | {Path(__file__).resolve().parents[2]}
    program = {each for each in program if each.parent != each}
    run = Files.EXECUTE if executes else Files(0)  # workers are started from the same files
    ports = dict.fromkeys(needs.binds, Ports.BIND)
    for port in needs.connects:
        ports[port] = ports.get(port, Ports(0)) | Ports.CONNECT
    return landlock.Rules(
        files=(
            *every([*_SYSTEM, *program], landlock.READ | run),
            (_NOTHING, Files.READ_FILE | Files.WRITE_FILE),
            *every(needs.reads, landlock.READ),
            *every(needs.changes, landlock.CHANGE),
            *every(needs.sockets, landlock.SOCKETS),
        ),
        ports=tuple(ports.items()),
    )


def _within(path: Path, places: Iterable[Path]) -> bool:
    return any(path.is_relative_to(place) for place in places)


def _behind_links(path: Path) -> Path:
    """Return where a path leads; one that leads in a circle, or nowhere, stands for itself, as open(2) will tell."""
    return Path(os.path.realpath(path))


def _real(paths: Iterable[Path]) -> Iterator[Path]:
    return map(_behind_links, paths)


def _directories(files: Iterable[Path]) -> Iterator[Path]:
    """Yield where each file is, and where it is behind its links; a file in the root directory stands for itself."""
    for file in files:
        absolute = Path(os.path.abspath(file))  # noqa: PTH100 - a link's own directory is meant
        for each in (_behind_links(absolute.parent) / absolute.name, _behind_links(absolute)):
            yield each if each.parent == each.parent.parent else each.parent


def _socket_directories(addresses: Iterable[Address]) -> Iterator[Path]:
    return (_behind_links(Path(each.path).parent) for each in addresses if isinstance(each, UnixAddress))


def _ports(addresses: Iterable[Address]) -> Iterator[int]:
    return (each.port for each in addresses if isinstance(each, TcpAddress))
