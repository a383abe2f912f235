from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from meshproxy.policy.decide import Mode
from meshproxy.settings.limits import limits_in_words
from meshproxy.settings.read import Reading, read_settings
from meshproxy.settings.schema import (
    AdminSettings,
    Audited,
    AuditSettings,
    CollectorEndpoint,
    IdentitySettings,
    Inbound,
    Limits,
    Outbound,
    Protocol,
    RuntimeSettings,
    Sandboxing,
    StaleDenyList,
    TracingSettings,
    WhenFull,
)
from meshproxy.telemetry.wanted import AccessLines, Wanted
from meshproxy.toml import Place, parse_toml
from meshproxy.wire.address import TcpAddress, UnixAddress
from meshproxy.wire.ends import PeerEof

BASE = Path("/etc/meshproxy")
IDENTITY = '[identity]\ndir = "identity"\n'
INBOUND = """[[inbound]]
name = "api"
listen = "0.0.0.0:8443"
forward = "127.0.0.1:8080"
protocol = "tcp"
policy = "api.allow.toml"
"""
OUTBOUND = """[[outbound]]
name = "ledger"
listen = "127.0.0.1:7001"
to = "/ledger"
endpoints = ["10.0.0.7:8443", "ledger.internal:8443"]
protocol = "tcp"
"""
GOOD = IDENTITY + INBOUND + OUTBOUND  # lines 1-2, 3-8, 9-14
HTTP = GOOD.replace('"tcp"', '"http"')


def read(text: str) -> Reading:
    return read_settings(parse_toml(text.encode(), file="side.toml"), base=BASE)


def test_proxy_protocol_and_sandbox_are_read() -> None:
    more = 'accept_proxy = ["10.0.0.0/8", "2001:db8::1"]\nsend_proxy = true\n'
    settings = read(IDENTITY + INBOUND + more + '[runtime]\nsandbox = "require"\n').settings
    assert settings is not None
    (inbound,) = settings.inbound
    assert list(map(str, inbound.accept_proxy)) == ["10.0.0.0/8", "2001:db8::1/128"]
    assert inbound.send_proxy
    assert settings.runtime.sandbox is Sandboxing.REQUIRE


def test_the_least_file_has_the_defaults_of_the_contract() -> None:
    reading = read(GOOD)
    assert reading.problems == ()
    settings = reading.settings
    assert settings is not None
    assert settings.identity == IdentitySettings(BASE / "identity", None, unsafe_key_mode=False)
    assert settings.admin == AdminSettings(TcpAddress("127.0.0.1", 9900), None)
    assert settings.runtime == RuntimeSettings(workers=1, drain_timeout=30.0, drain_delay=0.0, max_lag=0.1)
    assert settings.limits == Limits(
        handshake_timeout=10.0,
        head_timeout=10.0,
        connect_timeout=5.0,
        idle_timeout=300.0,
        max_connections=10_000,
        response_timeout=60.0,
        body_min_rate=500,
        head_bytes=32_768,
        max_fields=100,
        target_bytes=8192,
        pool_idle=3.0,
        max_connection_age=None,
        max_handshakes=512,
        max_connections_per_peer=5000,
        request_timeout=None,
        max_body_bytes=None,
        max_pipelined=100,
        max_upstream_connections=1024,
        max_upstream_queue=1024,
        upstream_queue_timeout=5.0,
    )
    assert settings.inbound == (
        Inbound(
            name="api",
            listen=TcpAddress("0.0.0.0", 8443),
            forward=TcpAddress("127.0.0.1", 8080),
            protocol=Protocol.TCP,
            policy=BASE / "api.allow.toml",
            mode=Mode.ENFORCE,
            limits=settings.limits,
            peer_eof=PeerEof.STRICT,
        ),
    )
    assert settings.outbound == (
        Outbound(
            name="ledger",
            listen=TcpAddress("127.0.0.1", 7001),
            to="/ledger",
            endpoints=(TcpAddress("10.0.0.7", 8443), TcpAddress("ledger.internal", 8443)),
            protocol=Protocol.TCP,
            limits=settings.limits,
        ),
    )


def test_every_key_is_read_and_a_listeners_own_limits_win() -> None:
    text = """
[identity]
dir = "/var/lib/id"
passphrase_file = "secret/pass"
unsafe_key_mode = true
stale_deny_list = "deny"
[admin]
listen = "unix:admin.sock"
public_listen = "0.0.0.0:9901"
[runtime]
workers = 2
drain_timeout = "10s"
drain_delay = "2s"
max_lag = "0s"
[limits]
handshake_timeout = "1s"
head_timeout = "2s"
connect_timeout = "3s"
idle_timeout = "4s"
max_connections = 5
response_timeout = "6s"
body_min_rate = "7B"
head_bytes = "8KiB"
max_fields = 90
target_bytes = "1KiB"
pool_idle = "10s"
max_connection_age = "1h"
max_handshakes = 8
max_connections_per_peer = 9
request_timeout = "2m"
max_body_bytes = "10MiB"
max_pipelined = 11
max_upstream_connections = 12
max_upstream_queue = 0
upstream_queue_timeout = "13s"
[[inbound]]
name = "api"
listen = "[::]:0"
forward = "10.0.0.1:80"
unsafe_forward = true
protocol = "tcp"
policy = "/etc/allow.toml"
mode = "audit"
peer_eof = "lenient"
idle_timeout = "1h"
max_connections = 7
[[outbound]]
name = "ledger"
listen = "unix:ledger.sock"
allow_uids = [1000, 0]
to = "spiffe://partner.net/ledger"
endpoints = "ledger:8443"
protocol = "tcp"
server_name = "ledger.internal"
alpn = "h2"
connect_timeout = "250ms"
[[outbound]]
name = "wide"
listen = "0.0.0.0:0"
unsafe_listen = true
to = "/wide"
endpoints = ["unix:/run/wide.sock"]
protocol = "tcp"
"""
    reading = read(text)
    assert reading.problems == ()
    settings = reading.settings
    assert settings is not None
    assert settings.identity == IdentitySettings(
        Path("/var/lib/id"), BASE / "secret/pass", unsafe_key_mode=True, stale_deny_list=StaleDenyList.DENY
    )
    assert reading.unsafe_key_mode
    assert settings.admin == AdminSettings(UnixAddress("/etc/meshproxy/admin.sock"), TcpAddress("0.0.0.0", 9901))
    assert settings.runtime == RuntimeSettings(2, 10.0, 2.0, max_lag=None)
    limits = Limits(
        handshake_timeout=1.0,
        connect_timeout=3.0,
        idle_timeout=4.0,
        max_connections=5,
        max_connection_age=3600.0,
        max_handshakes=8,
        max_connections_per_peer=9,
        head_timeout=2.0,
        response_timeout=6.0,
        request_timeout=120.0,
        body_min_rate=7,
        head_bytes=8192,
        max_fields=90,
        target_bytes=1024,
        max_body_bytes=10 << 20,
        max_pipelined=11,
        pool_idle=10.0,
        max_upstream_connections=12,
        max_upstream_queue=0,
        upstream_queue_timeout=13.0,
    )
    assert settings.limits == limits
    (inbound,) = settings.inbound
    assert (inbound.mode, inbound.peer_eof, inbound.unsafe_forward) == (Mode.AUDIT, PeerEof.LENIENT, True)
    assert inbound.limits == replace(limits, idle_timeout=3600.0, max_connections=7)
    assert (inbound.protocol, inbound.offered_alpn) == (Protocol.TCP, ())
    ledger, wide = settings.outbound
    assert ledger.limits == replace(limits, connect_timeout=0.25)
    assert ledger.offered_alpn == ledger.alpn
    assert (ledger.allow_uids, ledger.server_name, ledger.alpn) == (frozenset({0, 1000}), "ledger.internal", ("h2",))
    assert ledger.endpoints == (TcpAddress("ledger", 8443),)
    assert (wide.unsafe_listen, wide.endpoints) == (True, (UnixAddress("/run/wide.sock"),))


def test_an_http_listener_has_its_own_keys_and_always_offers_http() -> None:
    reading = read(
        GOOD.replace('"tcp"', '"http"').replace(
            "[[outbound]]",
            """response_timeout = "1m"
body_min_rate = "0B"
head_bytes = "1KiB"
target_bytes = "256B"
max_fields = 10
pool_idle = "0s"
[[outbound]]
host = "ledger.internal:8080"
server_name = "far.internal"
body_min_rate = "1MiB"
head_bytes = "1MiB"
target_bytes = "64KiB"
max_fields = 1000""",
        )
    )
    assert reading.problems == ()
    assert reading.settings is not None
    (api,), (ledger,) = reading.settings.inbound, reading.settings.outbound
    assert (api.protocol, api.offered_alpn) == (Protocol.HTTP, ("http/1.1",))
    assert (ledger.protocol, ledger.offered_alpn) == (Protocol.HTTP, ("http/1.1",))
    assert (ledger.host, ledger.server_name) == ("ledger.internal:8080", "far.internal")
    assert api.limits == Limits(
        response_timeout=60.0, body_min_rate=None, head_bytes=1024, target_bytes=256, max_fields=10, pool_idle=0.0
    )
    assert ledger.limits == Limits(body_min_rate=1 << 20, head_bytes=1 << 20, target_bytes=1 << 16, max_fields=1000)


def test_a_smaller_head_needs_no_word_about_the_target() -> None:
    assert read(GOOD + '[limits]\nhead_bytes = "4KiB"').problems == ()


def test_limits_of_http_may_stand_beside_tcp_listeners_but_not_in_them() -> None:
    assert read(GOOD + '[limits]\nresponse_timeout = "1s"\nhead_bytes = "64KiB"').problems == ()
    keys = ['response_timeout="1s"', 'body_min_rate="1B"', 'head_bytes="64KiB"', "max_fields=50", 'pool_idle="1s"']
    keys += ['request_timeout="1s"', 'max_body_bytes="1B"', "max_pipelined=1", "max_upstream_connections=1"]
    keys += ["max_upstream_queue=1", 'upstream_queue_timeout="1s"']
    for text in (IDENTITY + INBOUND, IDENTITY + OUTBOUND):
        problems = read(text + "\n".join([*keys, 'target_bytes="1KiB"'])).problems
        assert len(problems) == len(keys) + 1
        assert {problem.expected for problem in problems} == {'it with protocol = "http" only: tcp sees no messages'}


def test_limits_that_ask_who_is_calling_are_for_inbound_listeners() -> None:
    keys = ["max_handshakes = 1", "max_connections_per_peer = 1"]
    assert read(GOOD + "\n".join(["[limits]", *keys])).problems == ()
    assert read(IDENTITY + INBOUND + "\n".join(keys)).problems == ()
    problems = read(IDENTITY + OUTBOUND + "\n".join(keys)).problems
    assert [problem.where for problem in problems] == [
        "outbound[0].max_connections_per_peer",
        "outbound[0].max_handshakes",
    ]
    assert all("[[inbound]] only" in problem.expected for problem in problems)


def test_limits_are_told_as_they_would_be_written() -> None:
    settings = read(
        HTTP.replace("[[outbound]]", 'max_body_bytes = "10MiB"\nbody_min_rate = "0B"\n[[outbound]]')
    ).settings
    assert settings is not None
    told = limits_in_words(settings.inbound[0])
    assert set(told) == {field.name for field in fields(Limits)}
    assert told["handshake_timeout"] == "10s"
    assert told["max_body_bytes"] == "10MiB"
    assert (told["body_min_rate"], told["request_timeout"]) == ("off", "off")
    assert (told["max_handshakes"], told["head_bytes"], told["max_connection_age"]) == ("512", "32KiB", "off")
    assert set(told) - set(limits_in_words(settings.outbound[0])) == {"max_handshakes", "max_connections_per_peer"}
    plain = read(GOOD).settings
    assert plain is not None
    assert "head_bytes" not in limits_in_words(plain.inbound[0])
    text = "\n".join(
        f"{key} = {value if value.isdigit() else repr(value)}" for key, value in told.items() if value != "off"
    )
    again = read(HTTP.replace("[[outbound]]", f"{text}\n[[outbound]]")).settings
    assert again is not None
    assert limits_in_words(again.inbound[0]) | {"body_min_rate": "off"} == told


def test_any_one_listener_is_enough() -> None:
    assert read(IDENTITY + INBOUND).problems == ()
    assert read(IDENTITY + OUTBOUND).problems == ()


def test_port_zero_may_be_listened_on_twice() -> None:
    text = GOOD.replace("0.0.0.0:8443", "127.0.0.1:0").replace("127.0.0.1:7001", "127.0.0.1:0")
    assert read(text).problems == ()


def test_a_faulty_file_still_names_its_allow_lists() -> None:
    reading = read(INBOUND.replace('"tcp"', '"udp"') + INBOUND.replace("api", "b").replace("8443", "8444"))
    assert reading.settings is None
    first, second = reading.policies
    assert (first.listener, first.policy, first.protocol) == ("api", BASE / "api.allow.toml", None)
    assert (second.protocol, second.place) == (Protocol.TCP, Place(12, "inbound[1].policy"))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('ca = "ca.internal:8440"', (TcpAddress("ca.internal", 8440),)),
        ('ca = ["10.0.0.1:1", "[::1]:2"]', (TcpAddress("10.0.0.1", 1), TcpAddress("::1", 2))),
    ],
)
def test_where_the_ca_is(written: str, expected: tuple[TcpAddress, ...]) -> None:
    reading = read(changed('dir = "identity"', f'dir = "identity"\n{written}\ntoken_file = "web.token"'))
    assert reading.problems == ()
    assert reading.identity is not None
    assert (reading.identity.ca, reading.identity.token_file) == (expected, BASE / "web.token")


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


BROKEN = [
    # content, line, where, found, expected, remedy
    ("", 1, "", "no [identity]", "a table [identity]", 'Add [identity] with `dir = "identity"`'),
    (IDENTITY, 1, "", "no listener", "at least one [[inbound]] or [[outbound]]", "Add [[inbound]]"),
    (changed('dir = "identity"', ""), 1, "identity", "no `dir`", "`dir` in this table", 'Add `dir = "identity"`'),
    (changed('dir = "identity"', "dir = 3"), 2, "identity.dir", "3", "a string", 'dir = "identity"'),
    (changed('dir = "identity"', 'dir = ""'), 2, "identity.dir", 'the string ""', "a path", "dir ="),
    ("identity = 3\n" + INBOUND, 1, "identity", "3", "a table", "Write it as [identity]"),
    (changed("dir =", "drr ="), 2, "identity.drr", 'the unknown key "drr"', "one of ca, dir,", "Did you mean `dir`?"),
    (
        changed('dir = "identity"', 'dir = "identity"\ntoken_file = "t"'),
        3,
        "identity.token_file",
        "`token_file` without `ca`",
        "where the CA is",
        "Add `ca = ",
    ),
    (
        changed('dir = "identity"', 'dir = "identity"\nca = "unix:/run/ca"'),
        3,
        "identity.ca",
        '"unix:/run/ca"',
        "host:port or [v6]:port of a CA",
        'ca = "ca.internal:8440"',
    ),
    (changed('dir = "identity"', 'dir = "i"\nca = "ca:0"'), 3, "identity.ca", '"ca:0"', "a port from 1", "ca = "),
    (changed('dir = "identity"', 'dir = "i"\nca = []'), 3, "identity.ca", "an empty array", "at least one", "ca = "),
    (
        GOOD + '[polices]\nx = "y"',
        15,
        "polices",
        'the unknown key "polices"',
        "one of admin, audit, identity",
        "Remove it",
    ),
    (GOOD + "[limit]", 15, "limit", 'the unknown key "limit"', "one of", "Did you mean `limits`?"),
    (
        GOOD + "[admin]\nlisten = '0.0.0.0:9900'",
        16,
        "admin.listen",
        "0.0.0.0:9900, which others can reach",
        "a loopback address or a unix socket",
        "`public_listen`",
    ),
    (
        GOOD + "[admin]\nlisten = '9900'",
        16,
        "admin.listen",
        'the string "9900"',
        "host:port",
        'listen = "127.0.0.1:9900"',
    ),
    (
        GOOD + "[admin]\npublic_listen = '0.0.0.0:8443'",
        5,
        "inbound[0].listen",
        '"0.0.0.0:8443", which admin.public_listen on line 16 has',
        "an address of its own",
        "Change one",
    ),
    (
        changed("127.0.0.1:7001", "127.0.0.1:9900"),
        11,
        "outbound[0].listen",
        '"127.0.0.1:9900", which admin.listen',
        "admin has 127.0.0.1:9900 unless",
        "Change one",
    ),
    (GOOD + "[runtime]\nworkers = 0", 16, "runtime.workers", "0", "a whole number from 1 to 256", "workers = 2"),
    (GOOD + '[runtime]\nworkers = "all"', 16, "runtime.workers", '"all"', 'or "auto"', "workers = 2"),
    (
        GOOD + '[runtime]\ndrain_delay = "5"',
        16,
        "runtime.drain_delay",
        'the string "5"',
        "a duration",
        'drain_delay = "0s"',
    ),
    (GOOD + "[runtime]\ndrain_timeout = 5", 16, "runtime.drain_timeout", "5", "a string", 'drain_timeout = "30s"'),
    (
        GOOD + '[limits]\nidle_timeout = "0s"',
        16,
        "limits.idle_timeout",
        'the string "0s"',
        "above zero",
        'idle_timeout = "5m"',
    ),
    (GOOD + "[limits]\nmax_connections = 0", 16, "limits.max_connections", "0", "from 1 to", "max_connections = 10000"),
    (
        GOOD + "[limits]\nidle_time = 1",
        16,
        "limits.idle_time",
        "the unknown key",
        "one of",
        "Did you mean `idle_timeout`?",
    ),
    (GOOD + 'connect_timeout = "-1s"', 15, "outbound[0].connect_timeout", "-1s", "a duration", "connect_timeout ="),
    (changed('name = "api"', ""), 3, "inbound[0]", "no `name`", "`name` in this table", 'Add `name = "api"`'),
    (changed('"api"', '"a pi"'), 4, "inbound[0].name", 'the string "a pi"', "a name of 1 to 64", "name ="),
    (
        changed('"ledger"', '"api"'),
        10,
        "outbound[0].name",
        '"api", which inbound[0].name on line 4 has',
        "a name of its own",
        "Change one",
    ),
    (
        changed("0.0.0.0:8443", "127.0.0.1:7001"),
        11,
        "outbound[0].listen",
        "which inbound[0].listen on line 5 has",
        "an address of its own",
        "Change one",
    ),
    (changed("0.0.0.0:8443", "0.0.0.0"), 5, "inbound[0].listen", 'the string "0.0.0.0"', "host:port", "listen ="),
    (changed("0.0.0.0:8443", "0.0.0.0:65536"), 5, "inbound[0].listen", "65536", "a port from 0 to 65535", "listen ="),
    (
        changed("127.0.0.1:8080", "10.1.2.3:8080"),
        6,
        "inbound[0].forward",
        "10.1.2.3:8080, which reaches beyond",
        "a loopback address or a unix socket",
        "`unsafe_forward = true`",
    ),
    (
        changed("127.0.0.1:8080", "app:8080"),
        6,
        "inbound[0].forward",
        "app:8080, which reaches beyond",
        "a loopback",
        "`unsafe_forward",
    ),
    (
        changed("127.0.0.1:8080", "127.0.0.1:0"),
        6,
        "inbound[0].forward",
        '"127.0.0.1:0"',
        "nobody can be reached on port 0",
        "forward =",
    ),
    (changed('protocol = "tcp"', ""), 3, "inbound[0]", "no `protocol`", "`protocol` in", 'Add `protocol = "http"`'),
    (changed('"tcp"', '"udp"'), 7, "inbound[0].protocol", '"udp"', '"http" or "tcp"', 'protocol = "http"'),
    (changed('"tcp"', '"HTTP"'), 7, "inbound[0].protocol", '"HTTP"', '"http" or "tcp"', 'protocol = "http"'),
    (
        changed('policy = "api.allow.toml"', ""),
        3,
        "inbound[0]",
        "no `policy`",
        "there is no implicit allow",
        "`allow = []` lets nobody in",
    ),
    (changed('"api.allow.toml"', "7"), 8, "inbound[0].policy", "7", "a string", 'policy = "api.allow.toml"'),
    (IDENTITY + INBOUND + 'mode = "off"', 9, "inbound[0].mode", '"off"', '"enforce" or "audit"', 'mode = "enforce"'),
    (GOOD + 'mode = "audit"', 15, "outbound[0].mode", "the unknown key", "one of", "Remove it"),
    (GOOD + 'peer_eof = "no"', 15, "outbound[0].peer_eof", '"no"', '"strict" or "lenient"', 'peer_eof = "strict"'),
    (
        IDENTITY + INBOUND + 'unsafe_forward = "yes"',
        9,
        "inbound[0].unsafe_forward",
        '"yes"',
        "true or false",
        "unsafe_forward =",
    ),
    (
        IDENTITY + INBOUND + 'accept_proxy = "10.0.0.1/8"',
        9,
        "inbound[0].accept_proxy",
        '"10.0.0.1/8"',
        'a network such as "10.0.0.0/8"',
        "accept_proxy =",
    ),
    (
        IDENTITY + INBOUND + 'accept_proxy = ["10.0.0.0/8", "lb.internal"]',
        9,
        "inbound[0].accept_proxy[1]",
        '"lb.internal"',
        "an address or a network",
        "accept_proxy =",
    ),
    (
        IDENTITY + INBOUND.replace("0.0.0.0:8443", "unix:/run/a") + 'accept_proxy = "10.0.0.0/8"',
        9,
        "inbound[0].accept_proxy",
        "`accept_proxy` with unix:/run/a",
        "a TCP address",
        "Listen on TCP",
    ),
    (GOOD + "send_proxy = true", 15, "outbound[0].send_proxy", "the unknown key", "one of", "Remove it"),
    (
        GOOD + '[runtime]\nsandbox = "on"',
        16,
        "runtime.sandbox",
        '"on"',
        '"auto" or "off" or "require"',
        'sandbox = "auto"',
    ),
    (
        changed("127.0.0.1:7001", "0.0.0.0:7001"),
        11,
        "outbound[0].listen",
        "0.0.0.0:7001, which reaches beyond",
        "with this service's identity",
        "`unsafe_listen = true`",
    ),
    (changed('to = "/ledger"', ""), 9, "outbound[0]", "no `to`", "`to` in this table", 'Add `to = "/ledger"`'),
    (changed('"/ledger"', '"/*"'), 12, "outbound[0].to", '"/*"', "one identity such as /ledger", 'to = "/ledger"'),
    (changed('"/ledger"', '"/a//b"'), 12, "outbound[0].to", '"/a//b"', "an empty path segment", 'to = "/ledger"'),
    (
        changed('["10.0.0.7:8443", "ledger.internal:8443"]', "[]"),
        13,
        "outbound[0].endpoints",
        "an empty array",
        "at least one item",
        "endpoints =",
    ),
    (
        changed("ledger.internal:8443", "10.0.0.7:8443"),
        13,
        "outbound[0].endpoints[1]",
        '"10.0.0.7:8443"',
        "only once",
        "endpoints =",
    ),
    (
        changed("ledger.internal:8443", "::1:8443"),
        13,
        "outbound[0].endpoints[1]",
        '"::1:8443"',
        "an IPv6 address in brackets",
        "endpoints =",
    ),
    (changed("10.0.0.7:8443", "10.0.0.7:0"), 13, "outbound[0].endpoints[0]", '"10.0.0.7:0"', "port 0", "endpoints ="),
    (
        GOOD + "allow_uids = [1000]",
        15,
        "outbound[0].allow_uids",
        "`allow_uids` with 127.0.0.1:7001",
        "a unix socket",
        'listen = "unix:/path"',
    ),
    (
        changed("127.0.0.1:7001", "unix:l.sock") + "allow_uids = 1000",
        15,
        "outbound[0].allow_uids",
        "1000",
        "an array",
        "allow_uids = [1000]",
    ),
    (
        changed("127.0.0.1:7001", "unix:l.sock") + "allow_uids = [-1]",
        15,
        "outbound[0].allow_uids[0]",
        "-1",
        "a user ID",
        "allow_uids = [1000]",
    ),
    (
        changed("127.0.0.1:7001", "unix:l.sock") + "allow_uids = []",
        15,
        "outbound[0].allow_uids",
        "an empty array",
        "at least one item",
        "allow_uids =",
    ),
    (
        GOOD + 'host = "x"',
        15,
        "outbound[0].host",
        '`host` on a listener of protocol "tcp"',
        'protocol = "http" only: tcp has no Host field',
        "`server_name`",
    ),
    (
        HTTP + 'alpn = ["http/1.1"]',
        15,
        "outbound[0].alpn",
        '`alpn` on a listener of protocol "http"',
        'protocol = "tcp" only: http listeners always offer "http/1.1"',
        "Remove it",
    ),
    (HTTP + 'host = "http://x"', 15, "outbound[0].host", '"http://x"', "a Host field", 'host = "ledger.internal"'),
    (
        IDENTITY + INBOUND + 'head_bytes = "64KiB"',
        9,
        "inbound[0].head_bytes",
        '`head_bytes` on a listener of protocol "tcp"',
        'protocol = "http" only: tcp sees no messages',
        "in [limits] it may stay",
    ),
    (
        GOOD + '[limits]\ntarget_bytes = "32KiB"',
        16,
        "limits.target_bytes",
        "a target of 32768 bytes in a head of 32768",
        "less than `head_bytes`",
        "Raise `head_bytes`",
    ),
    (
        HTTP + 'head_bytes = "1KiB"\ntarget_bytes = "2KiB"',
        16,
        "outbound[0].target_bytes",
        "a target of 2048 bytes in a head of 1024",
        "less than `head_bytes`",
        "Raise `head_bytes`",
    ),
    (GOOD + "[limits]\nhead_bytes = 32768", 16, "limits.head_bytes", "32768", "a string", 'head_bytes = "32KiB"'),
    (GOOD + "[limits]\nbody_min_rate = '0'", 16, "limits.body_min_rate", '"0"', "a size", 'body_min_rate = "500B"'),
    (GOOD + 'server_name = "10.0.0.1"', 15, "outbound[0].server_name", '"10.0.0.1"', "no IP address", "server_name ="),
    (GOOD + 'min_tls = "1.1"', 15, "outbound[0].min_tls", '"1.1"', '"1.2" or "1.3"', 'min_tls = "1.3"'),
    (GOOD + 'alpn = ["h2", "h2"]', 15, "outbound[0].alpn[1]", '"h2"', "only once", 'alpn = ["h2"]'),
    ("inbound = 3\n" + GOOD.replace(INBOUND, ""), 1, "inbound", "3", "an array", "Write it as [[inbound]]"),
    (GOOD.replace("[[inbound]]", "[inbound]"), 3, "inbound", "a table", "an array", "Write it as [[inbound]]"),
]


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_says_what_where_and_what_to_do(case: tuple[str, int, str, str, str, str]) -> None:
    content, line, where, found, expected, remedy = case
    reading = read(content)
    assert reading.settings is None
    told = [p for p in reading.problems if (p.line, p.where) == (line, where) and found in p.found]
    assert len(told) == 1, reading.problems
    assert told[0].file == "side.toml"
    assert expected in told[0].expected
    assert remedy in told[0].remedy


SINGLE = [case for case in BROKEN if IDENTITY in case[0] and INBOUND.splitlines()[0] in case[0]]


@pytest.mark.parametrize("case", SINGLE)
def test_one_fault_is_one_problem(case: tuple[str, int, str, str, str, str]) -> None:
    assert len(read(case[0]).problems) == 1


def test_listeners_on_one_line_are_told_apart() -> None:
    one = '{ name = "a", listen = "127.0.0.1:1", to = "/a", endpoints = "b:1", protocol = "tcp" }'
    reading = read(f"outbound = [ {one}, {one} ]\n" + IDENTITY)
    assert [problem.where for problem in reading.problems] == ["outbound[1].name", "outbound[1].listen"]


def test_a_stale_deny_list_is_allowed_or_denied_and_nothing_else() -> None:
    [problem] = read(GOOD.replace("[identity]", '[identity]\nstale_deny_list = "warn"', 1)).problems
    assert problem.where == "identity.stale_deny_list"
    assert problem.expected.startswith('"allow" or "deny"')


AUDIT = '\n[audit]\nfile = "log/audit.jsonl"\n'


def test_where_and_what_is_recorded() -> None:
    recording = changed('protocol = "tcp"', 'audit = "denials"\nprotocol = "tcp"')
    reading = read(recording + AUDIT)
    assert reading.settings is not None, reading.problems
    assert reading.settings.audit == AuditSettings(BASE / "log/audit.jsonl")
    assert reading.settings.inbound[0].audit is Audited.DENIALS
    more = 'when_full = "wait"\ncheckpoint_every = "5s"\ncheckpoint_lines = 10\nrotate_size = "1GiB"\n'
    reading = read(recording + AUDIT + more)
    assert reading.settings is not None, reading.problems
    every = AuditSettings(BASE / "log/audit.jsonl", WhenFull.WAIT, 5.0, 10, 1 << 30)
    assert reading.settings.audit == every
    reading = read(GOOD)
    assert reading.settings is not None
    assert (reading.settings.audit, reading.settings.inbound[0].audit) == (None, Audited.OFF)


@pytest.mark.parametrize(
    ("faulty", "where", "expected"),
    [
        ("\n[audit]\n", "audit", "`file` in this table"),
        (AUDIT + 'when_full = "drop"\n', "audit.when_full", '"refuse" or "wait"'),
        (AUDIT + 'checkpoint_every = "0s"\n', "audit.checkpoint_every", "above zero"),
        (AUDIT + "checkpoint_lines = 0\n", "audit.checkpoint_lines", "from 1 to 1000000"),
        (AUDIT + 'rotate_size = "1KiB"\n', "audit.rotate_size", "from 64KiB to 64GiB"),
    ],
)
def test_what_says_not_how_to_record_is_told(faulty: str, where: str, expected: str) -> None:
    [problem] = read(GOOD + faulty).problems
    assert problem.where == where
    assert expected in problem.expected


def test_recording_needs_a_place() -> None:
    [problem] = read(changed('protocol = "tcp"', 'audit = "all"\nprotocol = "tcp"')).problems
    assert problem.where == "inbound[0].audit"
    assert "no file to record decisions in" in problem.found


TRACING = '\n[tracing]\nendpoint = "http://127.0.0.1:4318"\n'


def test_where_traces_go() -> None:
    reading = read(GOOD + TRACING)
    assert reading.settings is not None, reading.problems
    here = CollectorEndpoint("http://127.0.0.1:4318", TcpAddress("127.0.0.1", 4318), "/v1/traces", is_tls=False)
    assert reading.settings.tracing == TracingSettings(here, 0.01, None, None)
    there = TRACING.replace("http://127.0.0.1:4318", "https://collector.internal:4318/otlp/")
    reading = read(GOOD + there + 'to = "/collector"\nsample = 1\nservice = "the shop"\n')
    assert reading.settings is not None, reading.problems
    tracing = reading.settings.tracing
    assert tracing is not None
    assert (tracing.endpoint.path, tracing.endpoint.is_tls) == ("/otlp/v1/traces", True)
    assert (tracing.sample, tracing.to, tracing.service) == (1.0, "/collector", "the shop")
    settings = read(GOOD).settings
    assert settings is not None
    assert settings.tracing is None


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://localhost:4318/", "/v1/traces"),
        ("http://[::1]:4318/v1/traces", "/v1/traces"),
        ("http://127.0.0.1:4318/a-b/c", "/a-b/c/v1/traces"),
    ],
)
def test_an_endpoint_is_that_of_all_signals_unless_it_says_which(url: str, path: str) -> None:
    settings = read(GOOD + TRACING.replace("http://127.0.0.1:4318", url)).settings
    assert settings is not None
    assert settings.tracing is not None
    assert settings.tracing.endpoint.path == path


@pytest.mark.parametrize(
    ("faulty", "where", "expected"),
    [
        ("\n[tracing]\n", "tracing", "`endpoint` in this table"),
        (TRACING.replace("http:", "ftp:"), "tracing.endpoint", "http:// or https://"),
        (TRACING.replace(":4318", ""), "tracing.endpoint", "host:port"),
        (TRACING.replace(":4318", ":0"), "tracing.endpoint", "a port from 1 to 65535"),
        (TRACING.replace("127", "u:p@127"), "tracing.endpoint", "http:// or https://"),
        (TRACING.replace(":4318", ":4318/?a=b"), "tracing.endpoint", "http:// or https://"),
        (TRACING.replace("127.0.0.1", "10.0.0.1"), "tracing.endpoint", "a loopback address, or an https endpoint"),
        (TRACING.replace("http:", "https:"), "tracing.endpoint", "the identity of whoever is there"),
        (TRACING + 'to = "/collector"\n', "tracing.to", "an https endpoint"),
        (TRACING + "sample = 1.1\n", "tracing.sample", "from 0 to 1"),
        (TRACING + "sample = true\n", "tracing.sample", "from 0 to 1"),
        (TRACING + 'service = ""\n', "tracing.service", "printable"),
        ('\n[telemetry]\naccess_log = "none"\n', "telemetry.access_log", '"all" or "failures" or "off"'),
        ("\n[telemetry]\nrequest_metrics = 0\n", "telemetry.request_metrics", "true or false"),
    ],
)
def test_what_says_not_where_traces_go_is_told(faulty: str, where: str, expected: str) -> None:
    [problem] = read(GOOD + faulty).problems
    assert problem.where == where
    assert expected in problem.expected


def test_what_is_told_of_the_traffic() -> None:
    reading = read(GOOD + '\n[telemetry]\naccess_log = "failures"\nrequest_metrics = false\nseries = false\n')
    assert reading.settings is not None, reading.problems
    assert reading.settings.telemetry == Wanted(AccessLines.FAILURES, request_metrics=False, series=False)
