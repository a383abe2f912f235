"""A sidecar's TOML file, read into `Settings`, or every fault in it at once; pure.

The result of a faulty file is not nothing: it still names the allow-lists, so that `load` can judge those as well and
tell all faults of all files together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from meshproxy.policy.decide import Mode
from meshproxy.settings import grammar
from meshproxy.settings.limits import OF_HTTP, OnlyIn, read_limits, refuse_foreign, refuse_of_inbound
from meshproxy.settings.observing import read_telemetry, read_tracing
from meshproxy.settings.schema import (
    DEFAULT_ADMIN,
    AdminSettings,
    Audited,
    AuditSettings,
    IdentitySettings,
    Inbound,
    Limits,
    Outbound,
    PolicyDirectory,
    Protocol,
    RuntimeSettings,
    Sandboxing,
    Settings,
    StaleDenyList,
    TlsVersion,
    WhenFull,
)
from meshproxy.toml import Judge, boolean, quote
from meshproxy.wire.address import TcpAddress, UnixAddress
from meshproxy.wire.ends import PeerEof

if TYPE_CHECKING:
    from collections.abc import Hashable
    from pathlib import Path

    from meshproxy.errors import Problem
    from meshproxy.toml import Place, Table, TomlDocument
    from meshproxy.wire.address import Address

_H = TypeVar("_H", bound="Hashable")
_ALONE: Final = {
    "name": "a name of its own for each listener",
    "address": f"an address of its own for each listener (admin has {DEFAULT_ADMIN} unless [admin] says otherwise)",
}


_OF_OUTBOUND: Final = {
    "host": OnlyIn(
        Protocol.HTTP,
        "tcp has no Host field to set",
        "Remove it; for TLS server name indication write `server_name`",
    ),
    "alpn": OnlyIn(Protocol.TCP, 'http listeners always offer "http/1.1"', "Remove it"),
    **OF_HTTP,
}


@dataclass(frozen=True, slots=True)
class PolicyUse:
    """Where a listener names its allow-list: enough to tell faults of that file, and faults between the two.

    `protocol` is None when the listener's own is missing or faulty.
    """

    listener: str
    policy: Path | PolicyDirectory
    protocol: Protocol | None
    place: Place


@dataclass(frozen=True, slots=True)
class Reading:
    """What became of a file: `settings` when there are no `problems`.

    In any case the allow-lists, the identity and the admin address it names, as far as they could be read.
    """

    settings: Settings | None
    problems: tuple[Problem, ...]
    policies: tuple[PolicyUse, ...]
    identity: IdentitySettings | None
    admin: AdminSettings
    unsafe_key_mode: bool


def read_settings(document: TomlDocument, *, base: Path) -> Reading:
    """Read a sidecar's file; relative paths in it are relative to `base`, the directory it is in."""
    judge = Judge(document)
    reader = _SettingsReader(base)
    settings = reader.read(judge.root)
    problems = judge.faults()
    return Reading(
        None if problems else settings,
        problems,
        tuple(reader.policies),
        reader.identity,
        reader.admin,
        reader.unsafe_key_mode,
    )


class _SettingsReader:
    """Reads the tables of one file in turn, and remembers what no two listeners may share."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._address = grammar.address(base)
        self._destination = grammar.destination(base)
        self._path = grammar.file_path(base)
        self._taken: dict[tuple[str, Hashable], Place] = {}  # ("name" or "address", the value) -> who has it
        self.policies: list[PolicyUse] = []
        self.identity: IdentitySettings | None = None
        self.admin = AdminSettings()
        self.unsafe_key_mode = False
        self._audits = False  # whether there is [audit]

    def read(self, root: Table) -> Settings | None:
        """Read the whole file; None, with the problems recorded, when something required is missing or faulty."""
        identity = self.identity = self._identity(root)
        self.admin = self._admin(root)
        runtime = _runtime(root)
        audit = self._audit(root)
        tracing, telemetry = read_tracing(root), read_telemetry(root)
        table = root.table("limits")
        limits = Limits() if table is None else read_limits(table, Limits())
        inbound = [self._inbound(table, limits) for table in root.tables("inbound")]
        outbound = [self._outbound(table, limits) for table in root.tables("outbound")]
        if "inbound" not in root and "outbound" not in root:
            root.problem(
                found="no listener",
                expected="at least one [[inbound]] or [[outbound]]",
                remedy="Add [[inbound]] for others calling this service, [[outbound]] for this service calling others",
            )
        if identity is None:
            return None
        return Settings(
            identity=identity,
            inbound=tuple(each for each in inbound if each is not None),
            outbound=tuple(each for each in outbound if each is not None),
            admin=self.admin,
            runtime=runtime,
            limits=limits,
            audit=audit,
            tracing=tracing,
            telemetry=telemetry,
        )

    def _audit(self, root: Table) -> AuditSettings | None:
        self._audits = "audit" in root
        table = root.table("audit") if self._audits else None
        if table is None:
            return None
        default = AuditSettings(self._base)
        file = table.require("file", self._path, like='"audit.jsonl"')
        when_full = table.take("when_full", grammar.one_of(WhenFull), default.when_full, like='"refuse"')
        every = table.take("checkpoint_every", grammar.positive_duration, default.checkpoint_every, like='"60s"')
        lines = table.take("checkpoint_lines", grammar.checkpoint_lines, default.checkpoint_lines, like="10000")
        size = table.take("rotate_size", grammar.audit_file_size, default.rotate_size, like='"64MiB"')
        return None if file is None else AuditSettings(file, when_full, every, lines, size)

    def _identity(self, root: Table) -> IdentitySettings | None:
        table = root.require_table("identity", like='dir = "identity"')
        if table is None:
            return None
        directory = table.require("dir", self._path, like='"identity"')
        passphrase_file = table.take("passphrase_file", self._path, None, like='"passphrase"')
        self.unsafe_key_mode = table.take("unsafe_key_mode", boolean, default=False, like="true")
        ca = table.take_each("ca", grammar.each_once(grammar.ca_address), (), like='"ca.internal:8440"')
        token_file = table.take("token_file", self._path, None, like='"web.token"')
        if token_file is not None and "ca" not in table:
            table.problem(
                "token_file",
                found="`token_file` without `ca`",
                expected="where the CA is: a token is used there",
                remedy='Add `ca = "ca.internal:8440"`, or remove `token_file`',
            )
        stale = table.take("stale_deny_list", grammar.one_of(StaleDenyList), StaleDenyList.ALLOW, like='"deny"')
        if directory is None:
            return None
        return IdentitySettings(directory, passphrase_file, self.unsafe_key_mode, stale, ca, token_file)

    def _admin(self, root: Table) -> AdminSettings:
        default = AdminSettings()
        table = root.table("admin")
        if table is None:
            return default
        listen = table.take("listen", self._address, default.listen, like=f'"{default.listen}"')
        public_listen = table.take("public_listen", self._address, None, like='"0.0.0.0:9901"')
        if not listen.is_local:
            table.problem(
                "listen",
                found=f"{listen}, which others can reach",
                expected="a loopback address or a unix socket: the admin API has no other protection",
                remedy=f'Write `listen = "{default.listen}"`, and `public_listen` for what others may see',
            )
        self._claim(table, "address", "listen", listen)
        if public_listen is not None:
            self._claim(table, "address", "public_listen", public_listen)
        return AdminSettings(listen, public_listen)

    def _inbound(self, table: Table, defaults: Limits) -> Inbound | None:
        name = self._name(table, like='"api"')
        listen = self._listen(table, like='"0.0.0.0:8443"')
        forward = table.require("forward", self._destination, like='"127.0.0.1:8080"')
        protocol = table.require("protocol", grammar.protocol, like='"http"')
        policy = self._policy(table, name, protocol)
        mode = table.take("mode", grammar.one_of(Mode), Mode.ENFORCE, like='"enforce"')
        limits = read_limits(table, defaults)
        peer_eof = table.take("peer_eof", grammar.one_of(PeerEof), PeerEof.STRICT, like='"strict"')
        unsafe = table.take("unsafe_forward", boolean, default=False, like="true")
        audit = table.take("audit", grammar.one_of(Audited), Audited.OFF, like='"denials"')
        accept_proxy = table.take_each("accept_proxy", grammar.each_once(grammar.network), (), like='["10.0.0.0/8"]')
        send_proxy = table.take("send_proxy", boolean, default=False, like="true")
        if accept_proxy and isinstance(listen, UnixAddress):
            table.problem(
                "accept_proxy",
                found=f"`accept_proxy` with {listen}",
                expected="a TCP address: only there a sender has an address to be trusted by",
                remedy="Listen on TCP, or remove `accept_proxy`",
            )
        if audit is not Audited.OFF and not self._audits:
            table.problem(
                "audit",
                found=f'`audit = "{audit}"`, and no file to record decisions in',
                expected="where the audit log is",
                remedy='Add [audit] with `file = "audit.jsonl"`',
            )
        if forward is not None and not forward.is_local and not unsafe:
            _refuse_remote(table, "forward", forward, "the service's bytes would leave this machine in the clear")
        refuse_foreign(table, protocol, OF_HTTP)
        if name is None or listen is None or forward is None or protocol is None or policy is None:
            return None
        return Inbound(
            name,
            listen,
            forward,
            protocol,
            policy,
            mode,
            limits,
            peer_eof,
            unsafe,
            audit,
            accept_proxy=accept_proxy,
            send_proxy=send_proxy,
        )

    def _outbound(self, table: Table, defaults: Limits) -> Outbound | None:
        name = self._name(table, like='"ledger"')
        listen = self._listen(table, like='"127.0.0.1:7001"')
        to = table.require("to", grammar.far_identity, like='"/ledger"')
        endpoints = table.require_each("endpoints", grammar.each_once(self._destination), like='["10.0.0.7:8443"]')
        protocol = table.require("protocol", grammar.protocol, like='"http"')
        limits = read_limits(table, defaults)
        peer_eof = table.take("peer_eof", grammar.one_of(PeerEof), PeerEof.STRICT, like='"strict"')
        allow_uids = table.take_each("allow_uids", grammar.uid, None, like="[1000]")
        server_name = table.take("server_name", grammar.server_name, None, like='"ledger.internal"')
        host = table.take("host", grammar.host_field, None, like='"ledger.internal"')
        alpn = table.take_each("alpn", grammar.each_once(grammar.alpn_name), (), like='["h2"]')
        min_tls = table.take("min_tls", grammar.one_of(TlsVersion), TlsVersion.TLS_1_3, like='"1.3"')
        unsafe = table.take("unsafe_listen", boolean, default=False, like="true")
        if listen is not None and not listen.is_local and not unsafe:
            _refuse_remote(table, "listen", listen, "whoever reaches it would speak with this service's identity")
        if allow_uids is not None and isinstance(listen, TcpAddress):
            table.problem(
                "allow_uids",
                found=f"`allow_uids` with {listen}",
                expected="a unix socket: only there the kernel says which user is calling",
                remedy='Write `listen = "unix:/path"`, or remove `allow_uids`',
            )
        refuse_foreign(table, protocol, _OF_OUTBOUND)
        refuse_of_inbound(table)
        if name is None or listen is None or to is None or protocol is None:
            return None
        uids = None if allow_uids is None else frozenset(allow_uids)
        return Outbound(
            name, listen, to, endpoints, protocol, limits, peer_eof, uids, server_name, alpn, unsafe, host, min_tls
        )

    def _policy(self, table: Table, name: str | None, protocol: Protocol | None) -> Path | PolicyDirectory | None:
        if "policy" not in table:
            table.problem(
                found="no `policy`",
                expected="an allow-list: there is no implicit allow",
                remedy='Add `policy = "api.allow.toml"`; a file with `allow = []` lets nobody in',
            )
            return None
        policy = table.require("policy", grammar.policy(self._base), like='"api.allow.toml"')
        if policy is not None:
            self.policies.append(PolicyUse(name or "", policy, protocol, table.place_of("policy")))
        return policy

    def _name(self, table: Table, *, like: str) -> str | None:
        name = table.require("name", grammar.listener_name, like=like)
        return None if name is None else self._claim(table, "name", "name", name)

    def _listen(self, table: Table, *, like: str) -> Address | None:
        listen = table.require("listen", self._address, like=like)
        return None if listen is None else self._claim(table, "address", "listen", listen)

    def _claim(self, table: Table, kind: str, key: str, value: _H) -> _H:
        """Record a problem if another listener has this name, or listens here."""
        if isinstance(value, TcpAddress) and value.port == 0:  # a free port, another one each time
            return value
        place = table.place_of(key)
        first = self._taken.setdefault((kind, value), place)
        if first != place:
            table.problem(
                key,
                found=f"{quote(str(value))}, which {first.where} on line {first.line} has",
                expected=_ALONE[kind],
                remedy="Change one of the two",
            )
        return value


def _refuse_remote(table: Table, key: str, address: Address, danger: str) -> None:
    table.problem(
        key,
        found=f"{address}, which reaches beyond this machine",
        expected=f"a loopback address or a unix socket: {danger}",
        remedy=f"Write a loopback address, or accept the danger with `unsafe_{key} = true`",
    )


def _runtime(root: Table) -> RuntimeSettings:
    default = RuntimeSettings()
    table = root.table("runtime")
    if table is None:
        return default
    return RuntimeSettings(
        workers=table.take("workers", grammar.worker_count, default.workers, like="2"),
        drain_timeout=table.take("drain_timeout", grammar.positive_duration, default.drain_timeout, like='"30s"'),
        drain_delay=table.take("drain_delay", grammar.duration, default.drain_delay, like='"0s"'),
        sandbox=table.take("sandbox", grammar.one_of(Sandboxing), default.sandbox, like='"auto"'),
        max_lag=table.take("max_lag", grammar.duration_or_none, default.max_lag, like='"100ms"'),
    )
