"""The files people write: judged, with every fault in words and on a line that exists, whatever stands in them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ca import SpiffeId, TrustDomain, configuration
from meshproxy.errors import FaultyInput
from meshproxy.policy.cases import read_cases
from meshproxy.policy.compile import compile_policy
from meshproxy.policy.decide import decide_request
from meshproxy.policy.document import parse_allow_list
from meshproxy.policy.invariants import read_invariants
from meshproxy.settings.read import read_settings
from meshproxy.toml import parse_toml
from tests.fuzz.target import Target

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshproxy.errors import Problem

_NOW = datetime(2026, 11, 1, tzinfo=UTC)
_HOME = TrustDomain("mesh.test")
_BASE = Path("/nowhere")

_SETTINGS = b"""[identity]
dir = "identity"
[admin]
listen = "127.0.0.1:9900"
[runtime]
workers = 2
[limits]
head_timeout = "10s"
head_bytes = "32KiB"
[[inbound]]
name = "api"
listen = "0.0.0.0:8443"
forward = "127.0.0.1:8080"
protocol = "http"
policy = "api.allow.toml"
[[outbound]]
name = "ledger"
listen = "unix:/run/ledger.sock"
to = "/ledger"
endpoints = ["10.0.0.7:8443", "[::1]:1"]
protocol = "tcp"
alpn = ["h2"]
allow_uids = [1000]
"""
_ALLOW = b"""[[allow]]
name = "reads"
from = ["/web", "/batch/*", "spiffe://partner.test/**"]
methods = ["GET"]
paths = ["/charges", "/charges/*/refunds", "/docs/**"]
reason = "because"
expires = 2027-03-01
"""
_PROMISES = b"""[[invariant]]
name = "money"
services = ["/ledger"]
paths = ["/transfers/**"]
only = ["/checkout"]
require = ["owner"]
"""
_CASES = b"""policy = "api.allow.toml"
trust_domain = "mesh.test"
[[case]]
from = "/web"
method = "GET"
path = "/charges"
expect = "allow"
"""


def _run(data: bytes) -> None:
    kind, content = data[:1], data[1:]
    reader = _READERS.get(kind, _settings)
    try:
        reader(content)
    except FaultyInput as faulty:
        assert faulty.problems
        for problem in faulty.problems:
            _is_fit(problem, content)
    except configuration.ConfigurationError as error:
        assert str(error)


def _settings(content: bytes) -> None:
    reading = read_settings(parse_toml(content, file="sidecar.toml"), base=_BASE)
    assert (reading.settings is None) or not reading.problems
    for problem in reading.problems:
        _is_fit(problem, content)


def _allow_list(content: bytes) -> None:
    document = parse_allow_list(content, file="api.allow.toml")
    policy = compile_policy(document, generation=1)
    caller = SpiffeId.parse("spiffe://mesh.test/web")
    decision = decide_request(policy, caller, "GET", "/charges", home=_HOME, now=_NOW)
    assert decision.granted is (decision.rule is not None)
    if not document.rules:
        assert not decision.granted


def _is_fit(problem: Problem, content: bytes) -> None:
    assert str(problem).isprintable(), problem
    assert problem.line is None or 1 <= problem.line <= content.count(b"\n") + 2
    assert len(str(problem)) < 4000


_READERS: dict[bytes, Callable[[bytes], object]] = {
    b"S": _settings,
    b"A": _allow_list,
    b"I": lambda content: read_invariants(content, file="invariants.toml"),
    b"C": configuration.read,
    b"T": lambda content: read_cases(content, file="x.cases.toml"),
}
_CA = b'trust_domain = "mesh.test"\n[leaf]\ndefault_seconds = 86400\nminimum_seconds = 300\nmaximum_seconds = 604800\n'

TARGET = Target(
    _run,
    (
        b"S" + _SETTINGS,
        b"A" + _ALLOW,
        b"A" + b"allow = []\n",
        b"I" + _PROMISES,
        b"C"
        + _CA
        + b'[[issue]]\npaths = ["/a/**"]\nmaximum_seconds = 600\ndns_suffixes = ["x.test"]\n[trust]\n[rates]\n',
        b"T" + _CASES,
    ),
    (
        *(b"[", b"]", b"[[", b"]]", b"=", b"\n", b'"', b'"""', b"'''", b"{", b"}", b".", b"\\u0000", b"\\ud800", b"#"),
        *(
            b"1e999",
            b"-1",
            b"9" * 5000,
            b"0x",
            b"nan",
            b"inf",
            b"true",
            b"1979-05-27T07:32:00Z",
            b"9999-12-31",
            b"00:00",
        ),
        *(
            b"[" * 1100,
            b"a.b.c = 1\n",
            b"\r",
            b"\x7f",
            b"\xef\xbb\xbf",
            b"\x1b[2J",
            b'"0s"',
            b'"1e9d"',
            b'"999999999999h"',
        ),
        *(b'"unix:"', b'"[::]:0"', b'"\\n"', b"mode = 1\n", b"\xe2\x80\xae", b"inbound = 1\n", b"9223372036854775808"),
    ),
)
