"""The rules of ca.toml: who may be issued what, and how long; with the line that says so."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca import SpiffeId, TrustDomain
from ca.configuration import Configuration, ConfigurationError, first_text, read
from ca.issuance import Allowed, IssuanceRefused, PathGlob, decide
from ca.lifetime import LeafLimits
from ca.profiles import Names

HOME = TrustDomain.parse("mesh.test")
HEAD = """\
trust_domain = "mesh.test"
[leaf]
default_seconds = 86400
minimum_seconds = 300
maximum_seconds = 604800
"""
RULES = (
    HEAD
    + """\
[[issue]]                                # line 6
paths = ["/legacy/**", "/web/old"]
deny = true
[[issue]]                                # line 9
paths = ["/batch/*"]
maximum_seconds = 3600
dns_suffixes = ["batch.internal"]
ip_networks = ["10.0.0.0/8", "fd00::/8"]
renew_grace_seconds = 86400
[[issue]]                                # line 15
paths = ["/web", "/web/**"]
default_seconds = 7200
dns_suffixes = []
"""
)


def ask(
    text: str, path: str, *, ttl: timedelta | None = None, dns: tuple[str, ...] = (), ips: tuple[str, ...] = ()
) -> Allowed:
    configured = read(text.encode())
    names = Names(SpiffeId.of(HOME, path), dns, tuple(map(ip_address, ips)))
    return decide(configured.rules, configured.limits, configured.trust_domain, names, ttl)


def test_without_rules_everything_is_issued_but_what_is_reserved() -> None:
    allowed = ask(HEAD, "/anything/at/all", dns=("web.internal",), ips=("10.0.0.1",))
    assert allowed == Allowed(timedelta(hours=24), LeafLimits(), timedelta(0))
    for path in ("/meshproxy", "/meshproxy/ca"):
        with pytest.raises(IssuanceRefused, match="is reserved"):
            ask(HEAD, path)
        with pytest.raises(IssuanceRefused, match="is reserved"):
            ask(HEAD + '[[issue]]\npaths = ["/**"]\n', path)


def test_the_first_rule_that_matches_decides() -> None:
    assert ask(RULES, "/web").ttl == timedelta(hours=2)
    assert ask(RULES, "/web/a/b").ttl == timedelta(hours=2)
    batch = ask(RULES, "/batch/nightly", dns=("batch.internal", "n.batch.internal"), ips=("10.1.2.3", "fd00::1"))
    assert (batch.ttl, batch.limits.maximum, batch.renew_grace) == (
        timedelta(hours=1),
        timedelta(hours=1),
        timedelta(days=1),
    )


@pytest.mark.parametrize(
    ("path", "asked", "words"),
    [
        ("/legacy", {}, r"/legacy is not issued: ca.toml line 6 denies /legacy/\*\*"),
        ("/web/old", {}, "ca.toml line 6 denies /web/old"),
        ("/other", {}, r"/other is not issued: no rule of ca.toml \(from line 6 on\) allows it"),
        ("/batch", {}, "no rule of ca.toml"),
        ("/batch/a/b", {}, "no rule of ca.toml"),
        (
            "/batch/a",
            {"dns": ("web.internal",)},
            "may not have the DNS name web.internal: ca.toml line 9 allows batch.internal",
        ),
        ("/batch/a", {"dns": ("notbatch.internal",)}, "line 9"),
        (
            "/batch/a",
            {"ips": ("192.168.0.1",)},
            "may not have the address 192.168.0.1: ca.toml line 9 allows 10.0.0.0/8",
        ),
        ("/batch/a", {"ttl": timedelta(hours=2)}, "2 h is too long for /batch/a: at most 1 h, as ca.toml line 9 says"),
        ("/web", {"dns": ("web.internal",)}, "ca.toml line 15 allows none"),
    ],
)
def test_a_refusal_names_the_line(path: str, asked: dict[str, object], words: str) -> None:
    with pytest.raises(IssuanceRefused, match=words):
        ask(RULES, path, **asked)  # type: ignore[arg-type]


def test_another_trust_domain_is_refused() -> None:
    configured = read(HEAD.encode())
    names = Names(SpiffeId.parse("spiffe://partner.test/web"))
    with pytest.raises(IssuanceRefused, match="another trust domain"):
        decide((), configured.limits, HOME, names, None)


@pytest.mark.parametrize(
    ("glob", "path", "matches"),
    [
        ("/web", "/web", True),
        ("/web", "/web/a", False),
        ("/web", "/Web", False),
        ("/*", "/web", True),
        ("/*", "/web/a", False),
        ("/a/*/c", "/a/b/c", True),
        ("/a/*/c", "/a/b/d", False),
        ("/**", "/a/b", True),
        ("/a/**", "/a", True),
        ("/a/**", "/a/b/c", True),
        ("/a/**", "/ab", False),
        ("/*/**", "/a", True),
        ("/*/b/**", "/a", False),
    ],
)
def test_globs(glob: str, path: str, *, matches: bool) -> None:
    assert PathGlob(glob).match(path) is matches


@pytest.mark.parametrize("text", ["", "web", "/", "/a*", "/**/a", "/a//b", "/a/", "/../a", "/a%20", "/a\n", "/***"])
def test_what_is_no_glob_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no path of identities|whole segment|not a SPIFFE ID"):
        PathGlob(text)


@given(segments=st.lists(st.sampled_from(["a", "b", "*"]), min_size=1, max_size=4), tail=st.booleans())
def test_a_glob_matches_the_path_it_was_made_from(segments: list[str], *, tail: bool) -> None:
    text = "/" + "/".join(segments) + ("/**" if tail else "")
    assert PathGlob(text).match("/" + "/".join("x" if each == "*" else each for each in segments))


def test_headers_are_told_from_what_looks_like_them() -> None:
    text = (
        HEAD
        + '''\
[[issue]]
paths = ["""
[[issue]]
""", "/a"]
'''
    )
    with pytest.raises(ConfigurationError, match="line 6: "):
        read(text.encode())  # the first path is none, but the line is right
    text = (
        HEAD + "[[issue]]\npaths = ['''/a''']\n# [[issue]]\n [[ issue ]] # x\npaths = ['/b']\n[['issue']]\npaths=['/c']"
    )
    assert [rule.line for rule in read(text.encode()).rules] == [6, 9, 11]
    hidden = HEAD + '[[issue]]\npaths = ["/a"]\n[trust]\n[[issue]]\npaths = ["/b"]\n'
    assert [rule.line for rule in read(hidden.encode()).rules] == [6, 9]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('[[issue]]\npaths = ["web"]', "line 6: 'web' is no path of identities"),
        ("[[issue]]\npaths = []", "line 6: paths is empty"),
        ('[[issue]]\npaths = ["/a"]\nmaximum_seconds = 60', "line 6: maximum_seconds must be at least .* 5 min"),
        ('[[issue]]\npaths = ["/a"]\ndefault_seconds = 9\n', "line 6: default_seconds must be between"),
        ('[[issue]]\npaths = ["/a"]\ndns_suffixes = [".internal"]', "line 6: '.internal' is not a DNS name"),
        ('[[issue]]\npaths = ["/a"]\nip_networks = ["10.0.0.1/8"]', "line 6: 10.0.0.1/8 has host bits set"),
        ('[[issue]]\npaths = ["/a"]\nrenew_grace_seconds = -1', "line 6: renew_grace_seconds must be between 0"),
        ('[[issue]]\npaths = ["/a"]\nallow = true', "unknown field `allow`"),
        ("[trust]\nrefresh_hint_seconds = 1", "refresh_hint_seconds must be between 10 and 3600, found 1"),
        ("[trust]\ndeny_list_seconds = 9999999", "deny_list_seconds must be between 10 and 604800"),
        ("[rates]\nrenew_total = 0", "renew_total must be more than 0"),
    ],
)
def test_a_faulty_file_is_one_phrase(more: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read((HEAD + more).encode())


def test_a_first_file_says_what_it_was_made_from_and_its_comments_are_sound() -> None:
    configured = Configuration(HOME)
    text = first_text(configured).decode()
    assert read(text.encode()) == configured
    uncommented = "\n".join(
        line.removeprefix("# ") for line in text.splitlines() if line.startswith(("# [", "# paths", "# deny", "# max"))
    )
    assert len(read(text.encode() + uncommented.encode()).rules) == 3


def test_short_leaves_take_a_word_of_consent() -> None:
    short = HEAD.replace("minimum_seconds = 300", "minimum_seconds = 30")
    with pytest.raises(ConfigurationError, match="5m <= minimum"):
        read(short.encode())
    limits = read((short + "unsafe_short_leaves = true\n").encode()).limits
    assert limits.minimum == timedelta(seconds=30)
    assert read(first_text(Configuration(HOME, limits))).limits == limits
    with pytest.raises(ConfigurationError, match="10s <= minimum"):
        read((short.replace("= 30\n", "= 9\n") + "unsafe_short_leaves = true\n").encode())
