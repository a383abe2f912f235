"""`meshproxy policy check`: errors, warnings, and the forms in which other programs read them."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meshproxy.cli.main import cli

WEB = '[[allow]]\nname = "web"\nfrom = "/web"\n'


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("good.allow.toml").write_text(WEB)
    Path("below").mkdir()
    Path("below/wide.allow.toml").write_text('[[allow]]\nfrom = "/**"\n')
    Path("notes.toml").write_text("not ours")


def check(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["policy", "check", *arguments], prog_name="meshproxy")


def test_a_sound_file_has_nothing_to_say() -> None:
    said = check("good.allow.toml")
    assert (said.exit_code, said.stdout, said.stderr) == (0, "", "sound: 1 file, nothing to say\n")


def test_a_warning_is_told_and_counts_when_it_is_to() -> None:
    said = check(".")
    assert said.exit_code == 0
    assert said.stdout.startswith("below/wide.allow.toml:1: warning any_caller\n    rule 'rule-1': '/**' is every")
    assert said.stderr == "sound: 2 files, 1 warning\n"
    assert check(".", "--strict").exit_code == 1
    assert check(".", "--strict", "--ignore", "any_caller").exit_code == 0
    assert check("good.allow.toml", "--require", "owner", "--strict").exit_code == 1


def test_all_faults_of_all_files_are_told() -> None:
    Path("bad.allow.toml").write_text('[[allow]]\nfrm = "/web"\nmethods = ["get"]\n')
    said = check("bad.allow.toml", "gone.allow.toml", "good.allow.toml")
    assert said.exit_code == 1
    assert "bad.allow.toml:2: error faulty" in said.stdout
    assert "bad.allow.toml:3: error faulty" in said.stdout
    assert "gone.allow.toml: error unreadable\n    no file\n" in said.stdout


def test_as_json() -> None:
    said = json.loads(check(".", "--json").stdout)
    assert said["sound"] is True
    (remark,) = said["remarks"]
    assert (remark["weight"], remark["code"], remark["file"], remark["line"]) == (
        "warning",
        "any_caller",
        "below/wide.allow.toml",
        1,
    )


def test_as_annotations_of_github_nothing_breaks_out_of_its_place() -> None:
    odd = Path("below/a,b:c.allow.toml")
    odd.write_text('[[allow]]\nfrom = "/we%0a::error::b"\n')
    said = check(str(odd), "--format", "github")
    (line,) = said.stdout.splitlines()
    assert line.startswith("::error file=below/a%2Cb%3Ac.allow.toml,line=2,title=allow-list%3A faulty::")
    assert "/we%250a" in line


def test_links_in_a_circle_and_directories_without_lists_are_one_sentence() -> None:
    Path("circle").symlink_to("circle")
    assert check("circle").exit_code == 1
    assert "links that lead in a circle" in check("circle").stdout
    Path("empty").mkdir()
    (Path("empty") / "loop").symlink_to(".")
    (Path("empty") / "itself").symlink_to("itself")
    said = check("empty")
    assert (said.exit_code, said.stderr) == (2, "meshproxy: there is no *.allow.toml in empty\n")


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a = [", b"x" * 100, b"\0", b"allow = 3", b""])
def test_whatever_is_in_a_file_is_told_in_words(content: bytes) -> None:
    Path("odd.allow.toml").write_bytes(content)
    said = check("odd.allow.toml")
    assert said.exit_code == 1
    assert "Traceback" not in said.output
    assert "odd.allow.toml" in said.stdout


def test_a_promise_that_is_broken_is_an_error_with_a_request_that_shows_it() -> None:
    promise = '[[invariant]]\nname = "few"\nservices = ["/below/*"]\nonly = ["/web"]\n'
    Path("invariants.toml").write_text(promise)
    said = check(".", "--trust-domain", "mesh.test")
    assert said.exit_code == 1
    assert (
        "below/wide.allow.toml:1: error invariant\n    rule 'rule-1' breaks 'few': it grants "
        "spiffe://mesh.test/other GET /any, and only /web may be\n"
        "    narrow the rule; the promise is invariants.toml:1\n"
    ) in said.stdout
    Path("invariants.toml").write_text(promise.replace("/below/*", "/good"))
    assert check(".").exit_code == 0
    Path("invariants.toml").write_text("[[invariant]]")
    assert "invariants.toml:1: error faulty" in check(".").stdout
    Path("below/wide.allow.toml").write_text("allow = [")
    assert "invariants.toml:1: error faulty" in check("below").stdout
    Path("invariants.toml").unlink()
    Path("invariants.toml").symlink_to("gone")
    assert "invariants.toml: error unreadable" in check(".").stdout


@pytest.mark.parametrize("asked", ["policies/team/pay.allow.toml", "policies/team", "policies", "."])
def test_a_promise_counts_for_a_list_below_it_however_that_is_named(asked: str) -> None:
    Path("policies/team").mkdir(parents=True)
    Path("policies/team/pay.allow.toml").write_text(WEB)
    Path("policies/invariants.toml").write_text('[[invariant]]\nname = "few"\nservices = "/team/pay"\nonly = []\n')
    said = check(asked, "--ignore", "any_caller")
    assert said.exit_code == 1
    assert "pay.allow.toml:1: error invariant\n    rule 'web' breaks 'few'" in said.stdout
    assert "the promise is policies/invariants.toml:1" in said.stdout
    assert said.stdout.count("error invariant") == 1


def test_a_promise_about_others_is_idle_only_where_all_lists_were_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("invariants.toml").write_text('[[invariant]]\nservices = "/nobody"\nonly = []\n')
    for part in ("good.allow.toml", "below"):
        assert "idle" not in check(part).stdout
    assert "idle_invariant" in check(".").stdout
    monkeypatch.chdir("below")
    assert "idle" not in check(".").stdout
    Path("../invariants.toml").write_text('[[invariant]]\nservices = "/below/wide"\nonly = []\n')
    assert "the promise is ../invariants.toml:1" in check("wide.allow.toml").stdout


def test_a_file_that_no_service_can_have_is_an_error_where_services_matter() -> None:
    Path("invariants.toml").write_text('[[invariant]]\nrequire = ["owner"]\n')
    Path("a b.allow.toml").write_text("allow = []")
    assert "a b.allow.toml: error no_service" in check(".").stdout


def test_a_mounted_volume_is_judged_as_a_sidecar_sees_it(tmp_path: Path) -> None:
    # As Kubernetes mounts one: links at the places, to what lies behind `..data`.
    Path("mount/..2026_11_22/team").mkdir(parents=True)
    Path("mount/..2026_11_22/team/api.allow.toml").write_text(WEB)
    Path("mount/..data").symlink_to("..2026_11_22")
    Path("mount/team").symlink_to("..data/team")
    Path("mount/circle").symlink_to(".")
    said = json.loads(check("mount", "--json").stdout)
    assert said["files"] == ["mount/team/api.allow.toml"]
    assert said["remarks"] == []


def test_a_file_that_is_of_no_service_is_told_without_any_promise() -> None:
    Path("below/a b.allow.toml").write_text(WEB)
    said = check("below")
    assert (said.exit_code, "below/a b.allow.toml: error no_service\n" in said.stdout) == (1, True)


def test_a_promise_about_no_service_is_told() -> None:
    Path("below/invariants.toml").write_text('[[invariant]]\nname = "typo"\nservices = ["/wied"]\nonly = []\n')
    said = check("below", "--strict", "--ignore", "any_caller")
    assert said.exit_code == 1
    assert "below/invariants.toml:1: warning idle_invariant\n    'typo' is about no service" in said.stdout


def test_what_cannot_be_listed_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "below":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return listing(path)

    monkeypatch.setattr(os, "scandir", refusing)
    said = check(".")
    assert (said.exit_code, "below: Permission denied; what is in it cannot be told" in said.stderr) == (2, True)
