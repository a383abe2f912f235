"""`policy = "dir:..."`: the list that mirrors our identity, and the promises of its directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from meshproxy.errors import FaultyInput
from meshproxy.settings.load import load_and_keep, load_configuration, load_kept
from meshproxy.settings.schema import PolicyDirectory
from tests.factory import make_mesh_ca

if TYPE_CHECKING:
    from meshproxy.policy.compile import Policy

SIDECAR = """[identity]
dir = "identity"
[[inbound]]
name = "api"
listen = "127.0.0.1:8443"
forward = "127.0.0.1:8080"
protocol = "http"
policy = "dir:policies/"
"""
LIST = '[[allow]]\nname = "web"\nfrom = "/web"\nmethods = ["GET"]\npaths = ["/a"]\n'


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sidecar.toml").write_text(SIDECAR)
    Path("policies/team").mkdir(parents=True)
    Path("policies/team/api.allow.toml").write_text(LIST)


def be(path: str) -> None:
    make_mesh_ca(Path("mesh")).issue(path, into=Path("identity").absolute())


def policy() -> Policy:
    return load_configuration(Path("sidecar.toml")).policies["api"]


def problem() -> str:
    with pytest.raises(FaultyInput) as faulty:
        policy()
    return str(faulty.value)


def test_the_list_mirrors_the_path_of_the_identity() -> None:
    be("/team/api")
    configuration = load_configuration(Path("sidecar.toml"))
    assert [rule.name for rule in configuration.policies["api"].rules] == ["web"]
    assert configuration.policies["api"].file == "policies/team/api.allow.toml"
    assert configuration.settings.inbound[0].policy == PolicyDirectory(Path("policies").absolute())
    assert [file.name for file in configuration.files] == [
        "sidecar.toml",
        "api.allow.toml",
        "chain.pem",
        "invariants.toml",
    ]


def test_until_there_is_an_identity_nobody_is_let_in_and_it_is_watched_for() -> None:
    configuration = load_configuration(Path("sidecar.toml"))
    assert configuration.policies["api"].rules == ()
    assert Path("identity/chain.pem").absolute() in configuration.files
    be("/team/api")
    assert policy().rules


def test_whose_list_is_missing_is_told_where_it_is_expected() -> None:
    be("/other")
    assert "no file: policies/other.allow.toml" in problem()


def test_a_broken_promise_keeps_it_from_being_loaded() -> None:
    be("/team/api")
    Path("policies/invariants.toml").write_text(
        '[[invariant]]\nname = "few"\nservices = ["/team/**"]\npaths = ["/**"]\nonly = ["/batch"]\n'
    )
    said = problem()
    assert said.startswith("policies/team/api.allow.toml:1: found rule 'web', which breaks 'few': it grants ")
    assert "spiffe://mesh.test/web GET /a" in said
    assert "what policies/invariants.toml:1 promises" in said
    Path("policies/invariants.toml").write_text('[[invariant]]\nservices = ["/elsewhere"]\nonly = []\n')
    assert policy().rules


@pytest.mark.parametrize("content", ["nonsense", "[[invariant]]\n", "x = 1\n"])
def test_promises_that_cannot_be_read_keep_it_from_being_loaded(content: str) -> None:
    be("/team/api")
    Path("policies/invariants.toml").write_text(content)
    assert "policies/invariants.toml:" in problem()


def test_promises_that_others_may_write_are_none() -> None:
    be("/team/api")
    Path("policies/invariants.toml").write_text("invariant = []")
    assert policy().rules
    Path("policies/invariants.toml").chmod(0o666)
    assert "policies/invariants.toml: found" in problem()
    assert "chmod go-w policies/invariants.toml" in problem()


def test_a_directory_in_the_place_of_the_promises_is_no_absence() -> None:
    be("/team/api")
    Path("policies/invariants.toml").mkdir()
    assert "found a directory" in problem()


def test_a_worker_loads_the_same_from_what_it_is_handed() -> None:
    be("/team/api")
    Path("policies/invariants.toml").write_text('[[invariant]]\nonly = ["/web"]\n')
    kept = load_and_keep(Path("sidecar.toml"))
    for gone in ("policies/invariants.toml", "policies/team/api.allow.toml"):
        Path(gone).unlink()
    again = load_kept(Path("sidecar.toml"), kept.contents, generation=2)
    assert again.policies["api"].rules == kept.policies["api"].rules


def test_a_worker_is_handed_that_there_is_no_promise_and_no_identity() -> None:
    kept = load_and_keep(Path("sidecar.toml"))
    assert load_kept(Path("sidecar.toml"), kept.contents, generation=1).policies["api"].rules == ()
    be("/team/api")
    kept = load_and_keep(Path("sidecar.toml"))
    assert load_kept(Path("sidecar.toml"), kept.contents, generation=1).policies["api"].rules


def test_what_is_read_is_watched_and_judged_for_who_may_write_it() -> None:
    be("/team/api")
    Path("policies/team").chmod(0o777)
    assert "policies/team" in problem()


@pytest.mark.parametrize("becomes", ["another", "nothing", "nonsense"])
def test_a_running_sidecar_keeps_to_the_list_of_who_it_is_whatever_becomes_of_the_certificate(becomes: str) -> None:
    be("/team/api")
    Path("policies/team/other.allow.toml").write_text('[[allow]]\nname = "others"\nfrom = "/**"\n')
    in_force = load_and_keep(Path("sidecar.toml"))
    if becomes == "another":
        make_mesh_ca(Path("another")).issue("/team/other", into=Path("identity").absolute())
    elif becomes == "nothing":
        Path("identity/current").unlink()
    else:
        Path("identity/chain.pem").write_text("half a certifi")
    Path("policies/team/api.allow.toml").write_text(LIST.replace("/a", "/b"))
    new = load_and_keep(Path("sidecar.toml"), generation=2, known=in_force.known)
    rules = new.policies["api"].rules
    assert [str(rule.paths and rule.paths[0]) for rule in rules] == ["/b"]
    assert new.known == in_force.known
    assert load_configuration(Path("sidecar.toml"), known=in_force.known).policies["api"].rules == rules
    assert load_kept(Path("sidecar.toml"), new.contents, generation=2).policies["api"].rules == rules
