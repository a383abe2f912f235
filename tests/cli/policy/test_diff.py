"""`meshproxy policy diff`: two files, two directories, and what git remembers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from meshproxy.cli.main import cli

OLD = '[[allow]]\nname = "web"\nfrom = "/web"\nmethods = ["GET"]\npaths = ["/a/*"]\n'
NEW = OLD.replace("/a/*", "/a/**")


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for directory, text in (("old", OLD), ("new", NEW)):
        (Path(directory) / "team").mkdir(parents=True)
        (Path(directory) / "team/api.allow.toml").write_text(text)


def diff(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["policy", "diff", *arguments], prog_name="meshproxy")


def test_two_files() -> None:
    said = diff("old/team/api.allow.toml", "new/team/api.allow.toml")
    assert said.exit_code == 1
    assert said.stdout == "+ widens   /web: GET on /a/** (rule 'web', line 1)\n           as in /web GET /a\n"
    assert said.stderr == "1 grant differs\n"
    back = diff("new/team/api.allow.toml", "old/team/api.allow.toml")
    assert back.stdout.startswith("- narrows")


def test_no_difference_is_exit_0() -> None:
    Path("other.toml").write_text('[[allow]]\nfrom = ["/web", "/web"]\npaths = ["/a/*"]\nmethods = ["GET"]\n')
    said = diff("old/team/api.allow.toml", "other.toml")
    assert (said.exit_code, said.stdout) == (0, "")


def test_two_directories_by_name() -> None:
    Path("new/extra.allow.toml").write_text('[[allow]]\nfrom = "/b"\n')
    said = diff("old", "new")
    assert said.stdout.splitlines()[0] == "extra.allow.toml is new"
    assert "+ appears" in said.stdout
    assert "team/api.allow.toml" in said.stdout
    rows = json.loads(diff("new", "old", "--json").stdout)
    assert [(row["file"], row["kind"]) for row in rows["changes"]] == [
        ("extra.allow.toml", "vanishes"),
        ("team/api.allow.toml", "narrows"),
    ]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_against_a_revision_of_git(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        author = ("-c", "user.name=a", "-c", "user.email=a@b")
        subprocess.run(["git", "-C", str(tmp_path / "old"), *author, *words], check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    assert diff("--git", "HEAD", "old").exit_code == 0
    Path("old/team/api.allow.toml").write_text(NEW)
    Path("old/z.allow.toml").write_text("allow = []\n")
    for path in ("old", "old/team/api.allow.toml", "old/team"):
        said = diff("--git", "HEAD", path)
        assert (said.exit_code, "+ widens" in said.stdout) == (1, True)
    assert diff("--git", "nonsense", "old").stderr.startswith("meshproxy: git says: fatal:")
    assert diff("--git", "--output=x", "old").exit_code == 2
    assert diff("--git", "HEAD", "new").exit_code == 2  # in no repository


@pytest.mark.parametrize("arguments", [("old",), ("old", "new", "--git", "HEAD"), ("old", "gone"), ("old", "notes")])
def test_what_cannot_be_compared_is_exit_2(arguments: tuple[str, ...]) -> None:
    Path("notes").write_text("allow = 3")
    said = diff(*arguments)
    assert said.exit_code == 2
    assert "Traceback" not in said.output


def test_a_file_is_not_compared_with_a_directory() -> None:
    said = diff("old.allow.toml", ".")
    assert (said.exit_code, "name two files or two directories" in said.stderr) == (2, True)


def test_what_differs_later_only_says_from_when_on() -> None:
    Path("ends.allow.toml").write_text('[[allow]]\nfrom = "/web"\nexpires = 9000-01-01\n')
    Path("stays.allow.toml").write_text('[[allow]]\nfrom = "/web"\n')
    later = "as in /web GET /other, from 9000-01-01 on\n"
    said = diff("ends.allow.toml", "stays.allow.toml").stdout
    assert said == f"+ widens   /web: everything (rule 'rule-1', line 1)\n           {later}"
    said = diff("stays.allow.toml", "ends.allow.toml").stdout
    assert said == f"- narrows  /web: everything (rule 'rule-1', line 1)\n           {later}"
    Path("nobody.allow.toml").write_text("allow = []")
    said = diff("stays.allow.toml", "nobody.allow.toml").stdout
    assert said.endswith("- vanishes /web: everything (rule 'rule-1', line 1)\n           as in /web GET /other\n")
