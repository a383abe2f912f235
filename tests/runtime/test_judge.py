from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from ca import tokens
from ca.tokens import JoinToken
from meshproxy.runtime.judge import judge
from tests.factory import MeshCa, make_mesh_ca
from tests.trusting import by_id, say

if TYPE_CHECKING:
    from pathlib import Path

SIDECAR = """
[identity]
dir = "api"
[[inbound]]
name = "in"
listen = "127.0.0.1:8443"
forward = "127.0.0.1:8080"
protocol = "tcp"
policy = "in.allow.toml"
"""
ALLOW = '[[allow]]\nfrom = "/web"\nexpires = 2020-01-01\n[[allow]]\nfrom = "/batch"\n'


@dataclasses.dataclass
class Home:
    file: Path
    mesh: MeshCa


@pytest.fixture
def home(tmp_path: Path) -> Home:
    mesh = make_mesh_ca(tmp_path)
    mesh.issue("/api")
    (tmp_path / "side.toml").write_text(SIDECAR)
    (tmp_path / "in.allow.toml").write_text(ALLOW)
    return Home(tmp_path / "side.toml", mesh)


def test_a_sound_sidecar_has_no_problems_and_expired_grants_are_a_warning(home: Home) -> None:
    judged = judge(home.file, datetime.now(UTC))
    assert judged.problems == ()
    assert judged.configuration is not None
    assert judged.material is not None
    (warning,) = judged.warnings
    assert warning.endswith("in.allow.toml:1: rule rule-1 expired at 2020-01-01 and no longer grants")


@pytest.mark.parametrize(
    ("shift", "found", "remedy"),
    [
        (timedelta(days=2), "a certificate that is expired (valid from", "issue it again: meshproxy ca issue /api"),
        (timedelta(days=-1), "a certificate that is not yet valid (valid from", "check this machine's clock, or"),
    ],
)
def test_an_identity_that_cannot_be_used_now_is_a_problem_here(
    home: Home, shift: timedelta, found: str, remedy: str
) -> None:
    (problem,) = judge(home.file, datetime.now(UTC) + shift).problems
    assert problem.found.startswith(found)
    assert problem.remedy.startswith(remedy)


def test_one_that_expires_soon_is_a_warning(home: Home) -> None:
    judged = judge(home.file, datetime.now(UTC) + timedelta(hours=20))
    assert judged.problems == ()
    assert any(warning.startswith("the leaf certificate expires in 3h 59m") for warning in judged.warnings)


def test_a_missing_identity_is_a_problem_with_the_command_to_type(home: Home) -> None:
    home.file.write_text(SIDECAR.replace('"api"', '"nowhere"'))
    (problem,) = judge(home.file, datetime.now(UTC)).problems
    assert problem.found.startswith("there is no identity in")
    assert "meshproxy ca issue" in problem.remedy


def test_faults_of_settings_allow_list_and_identity_come_together(home: Home, tmp_path: Path) -> None:
    home.file.write_text(SIDECAR + "colour = 1\n")
    (tmp_path / "in.allow.toml").write_text("")
    (tmp_path / "api" / "current" / "key.pem").chmod(0o644)
    judged = judge(home.file, datetime.now(UTC))
    assert {problem.file.rpartition("/")[2] for problem in judged.problems} == {
        "side.toml",
        "in.allow.toml",
        "key.pem",
    }
    assert judged.configuration is None
    assert list(judged.problems) == sorted(judged.problems, key=lambda p: (p.file, p.line or 0))


def test_a_file_that_is_no_toml_is_a_problem_and_no_crash(home: Home) -> None:
    home.file.write_text("[[[")
    assert len(judge(home.file, datetime.now(UTC)).problems) == 1


def enrolling(home: Home) -> Path:
    """The same sidecar, without an identity, and with a CA; returns where its token comes."""
    token_file = home.file.parent / "api.token"
    text = home.file.read_text().replace('dir = "api"', 'dir = "none"\nca = "ca.test:8440"\ntoken_file = "api.token"')
    home.file.write_text(text)
    return token_file


def test_a_sidecar_that_enrols_itself_is_sound_with_its_token(home: Home) -> None:
    token_file = enrolling(home)
    token_file.touch(mode=0o600)
    token_file.write_text(tokens.encode(JoinToken(b"i" * 16, b"s" * 32, (b"p" * 32,))))
    judged = judge(home.file, datetime.now(UTC))
    assert (judged.problems, judged.material) == ((), None)


@pytest.mark.parametrize(
    ("content", "mode", "found"),
    [
        (None, 0o600, "there is no token file"),
        ("mj1.AAAA", 0o600, "holds no token that can be used: it is of version 0"),
        ("", 0o600, "its first line is empty"),
        ("mj1.AAAA", 0o644, "readable by everyone"),
    ],
)
def test_a_token_that_cannot_be_used_is_a_problem_with_the_command_for_another(
    home: Home, content: str | None, mode: int, found: str
) -> None:
    token_file = enrolling(home)
    if content is not None:
        token_file.touch(mode=0o600)
        token_file.write_text(content)
        token_file.chmod(mode)
    (problem,) = judge(home.file, datetime.now(UTC)).problems
    assert found in problem.found
    assert problem.file == str(token_file)
    assert f"meshproxy ca token create /PATH --ca ca.test:8440 --out {token_file}" in problem.remedy


def test_who_has_an_identity_may_have_thrown_the_token_away(home: Home) -> None:
    enrolling(home)
    home.mesh.issue("/api", into=home.file.parent / "none")
    assert judge(home.file, datetime.now(UTC)).problems == ()


def strictly(home: Home) -> None:
    home.file.write_text(SIDECAR.replace('dir = "api"', 'dir = "api"\nstale_deny_list = "deny"'))


def test_what_is_trusted_beside_the_identity_is_judged_too(home: Home, tmp_path: Path) -> None:
    say(tmp_path / "api", home.mesh)
    assert judge(home.file, datetime.now(UTC)).problems == ()
    late = judge(home.file, datetime.now(UTC) + timedelta(hours=3))
    assert late.problems == ()
    assert any("trust.json: the deny-list is stale for 2h" in warning for warning in late.warnings)
    (tmp_path / "api" / "trust.json").write_text("nonsense")
    faulty = judge(home.file, datetime.now(UTC))
    assert faulty.problems == ()
    assert any("trust.json: it is not what a CA says" in warning for warning in faulty.warnings)


def test_without_a_fresh_deny_list_a_strict_sidecar_would_refuse_and_that_is_a_problem(
    home: Home, tmp_path: Path
) -> None:
    strictly(home)
    (problem,) = judge(home.file, datetime.now(UTC)).problems
    assert problem.found.startswith("there is no deny-list in")
    say(tmp_path / "api", home.mesh)
    assert judge(home.file, datetime.now(UTC)).problems == ()
    (problem,) = judge(home.file, datetime.now(UTC) + timedelta(hours=3)).problems
    assert "was good until" in problem.found


def test_an_identity_that_is_revoked_is_a_problem(home: Home, tmp_path: Path) -> None:
    say(tmp_path / "api", home.mesh, by_id(home.mesh.issue("/api")))
    (problem,) = judge(home.file, datetime.now(UTC)).problems
    assert "for spiffe://mesh.test/api was revoked" in problem.found
    assert "meshproxy ca token create /api" in problem.remedy
