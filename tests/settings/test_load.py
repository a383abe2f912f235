from __future__ import annotations

import os
import socket
import tracemalloc
from pathlib import Path

import pytest

from meshproxy.errors import FaultyInput, Problem
from meshproxy.settings.files import UnreadableFile, file_name, read_file
from meshproxy.settings.load import (
    Configuration,
    FaultyConfiguration,
    load_admin,
    load_and_keep,
    load_configuration,
    load_kept,
)
from meshproxy.settings.schema import DEFAULT_ADMIN, IdentitySettings
from meshproxy.toml import MAX_BYTES
from meshproxy.wire.address import UnixAddress

SIDECAR = """[identity]
dir = "identity"
[[inbound]]
name = "api"
listen = "127.0.0.1:8443"
forward = "127.0.0.1:8080"
protocol = "tcp"
policy = "api.allow.toml"
[[inbound]]
name = "batch"
listen = "127.0.0.1:8444"
forward = "127.0.0.1:8080"
protocol = "tcp"
policy = "./api.allow.toml"
[[inbound]]
name = "ops"
listen = "127.0.0.1:8445"
forward = "127.0.0.1:8080"
protocol = "tcp"
policy = "lists/ops.allow.toml"
"""
ALLOW = '[[allow]]\nfrom = "/web"\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    tmp_path.chmod(0o755)
    (tmp_path / "lists").mkdir(mode=0o755)
    for name, text in {"side.toml": SIDECAR, "api.allow.toml": ALLOW, "lists/ops.allow.toml": "allow = []"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(path: str = "side.toml") -> Configuration:
    return load_configuration(Path(path), generation=4)


def problems(path: str = "side.toml") -> tuple[Problem, ...]:
    with pytest.raises(FaultyInput) as refusal:
        load(path)
    return refusal.value.problems


def test_a_good_file_brings_settings_and_policies_together(home: Path) -> None:
    configuration = load()
    assert [each.name for each in configuration.settings.inbound] == ["api", "batch", "ops"]
    assert configuration.policies["api"] is configuration.policies["batch"]
    assert configuration.policies["api"].file == "api.allow.toml"
    assert configuration.policies["api"].generation == 4
    assert configuration.policies["ops"].rules == ()
    assert configuration.files == (home / "side.toml", home / "api.allow.toml", home / "lists/ops.allow.toml")
    assert configuration.settings.identity.dir == home / "identity"


def test_paths_are_relative_to_the_file_not_to_where_one_stands(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home / "lists")
    configuration = load("../side.toml")
    assert configuration.settings.identity.dir.resolve() == home / "identity"
    assert configuration.policies["api"].file == "../api.allow.toml"
    assert configuration.policies["ops"].file == "ops.allow.toml"


def test_all_faults_of_all_files_are_told_at_once(home: Path) -> None:
    (home / "side.toml").write_text(SIDECAR.replace('name = "batch"', 'name = "api"').replace('"identity"', "3"))
    (home / "api.allow.toml").write_text('[[allow]]\nfrom = "web"\nmethods = ["GET"]\n')
    (home / "lists/ops.allow.toml").write_text("")
    (home / "lists").chmod(0o777)
    told = [(p.file, p.line, p.where) for p in problems()]
    assert told == [
        ("api.allow.toml", 2, "allow[0].from"),
        ("api.allow.toml", 3, "allow[0].methods"),
        ("lists", None, ""),
        ("lists/ops.allow.toml", 1, ""),
        ("side.toml", 2, "identity.dir"),
        ("side.toml", 10, "inbound[1].name"),
    ]


def test_http_keys_on_a_tcp_listener_name_rule_and_listener(home: Path) -> None:
    (home / "api.allow.toml").write_text(ALLOW + 'name = "reads"\nmethods = ["GET"]\npaths = "/a"\n')
    methods, paths = problems()
    assert (methods.file, methods.line, methods.where) == ("api.allow.toml", 4, "allow[0].methods")
    assert methods.found == '`methods` in rule "reads"'
    assert methods.expected == 'only `from`: listener "api" (side.toml:8) has protocol = "tcp" and sees no requests'
    assert paths.line == 5


def test_http_keys_are_legal_on_http_listeners_unless_a_tcp_one_shares_the_list(home: Path) -> None:
    (home / "api.allow.toml").write_text(ALLOW + 'methods = ["GET"]\npaths = "/a"\n')
    (home / "side.toml").write_text(SIDECAR.replace('"tcp"', '"http"'))
    assert load().policies["api"].rules[0].methods == ("GET",)
    (home / "side.toml").write_text(SIDECAR.replace('"tcp"', '"http"', 1))
    assert {problem.expected for problem in problems()} == {
        'only `from`: listener "batch" (side.toml:14) has protocol = "tcp" and sees no requests'
    }


def test_a_rule_whose_grants_are_to_be_recorded_needs_an_audit_log(home: Path) -> None:
    (home / "api.allow.toml").write_text(ALLOW + 'audit = "all"\n' + ALLOW + 'audit = "off"\n')
    (problem,) = problems()
    assert (problem.file, problem.line) == ("api.allow.toml", 1)
    assert problem.found == '`audit = "all"` in rule "rule-1", and no file to record its grants in'
    assert "side.toml" in problem.remedy
    (home / "side.toml").write_text(SIDECAR + '[audit]\nfile = "audit.jsonl"\n')
    assert load().policies["api"].wants_records


def test_a_missing_allow_list_is_told_where_it_is_named(home: Path) -> None:
    (home / "api.allow.toml").unlink()
    (problem,) = problems()
    assert (problem.file, problem.line, problem.where) == ("side.toml", 8, "inbound[0].policy")
    assert problem.found == "no file: api.allow.toml"
    assert "`allow = []` in it lets nobody in" in problem.expected
    assert problem.remedy == "Create it or correct the name"


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "device", "loop", "nothing"])
@pytest.mark.parametrize("which", ["side.toml", "api.allow.toml"])
def test_what_is_no_file_is_a_problem_and_no_hang(home: Path, kind: str, which: str) -> None:
    path = home / which
    path.unlink()
    found = {
        "directory": "a directory",
        "fifo": "a FIFO",
        "socket": "a socket",
        "device": "a device",
        "loop": "links that lead in a circle",
        "nothing": "no file",
    }[kind]
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(which)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    (problem,) = problems()
    assert problem.file == "side.toml"
    assert problem.found.startswith(found)


def test_a_file_on_the_way_is_told() -> None:
    with pytest.raises(UnreadableFile) as refusal:
        read_file(Path("/dev/null/x"))
    assert refusal.value.found == "no directory on the way to the file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_one_may_not_read_is_told(home: Path) -> None:
    (home / "api.allow.toml").chmod(0)
    (problem,) = problems()
    assert problem.found == "a file this user may not read: api.allow.toml"


def test_an_error_without_its_own_words_is_told_in_the_systems(home: Path) -> None:
    with pytest.raises(UnreadableFile) as refusal:
        read_file(Path("a" * 5000))
    assert refusal.value.found == "a file that cannot be read (File name too long)"


def test_a_name_that_becomes_a_fifo_after_the_first_look_does_not_hang(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(home / "pipe")
    regular = (home / "side.toml").stat()
    monkeypatch.setattr(Path, "stat", lambda *_, **__: regular)
    with pytest.raises(UnreadableFile) as refusal:
        read_file(home / "pipe")
    assert refusal.value.found == "a FIFO"


def test_a_huge_file_is_refused_unread(home: Path) -> None:
    with (home / "api.allow.toml").open("wb") as file:
        file.truncate(MAX_BYTES * 1000)  # sparse
    (problem,) = problems()
    assert problem.file == "api.allow.toml"
    assert problem.found == "more than 16 MiB"


@pytest.mark.parametrize(
    ("path", "mode", "file", "found"),
    [
        ("side.toml", 0o666, "side.toml", "mode 0666, writable by everyone"),  # it names the lists and the mode
        ("api.allow.toml", 0o666, "api.allow.toml", "mode 0666, writable by everyone"),
        ("api.allow.toml", 0o602, "api.allow.toml", "mode 0602, writable by everyone"),
        ("lists", 0o777, "lists", "mode 0777, writable by everyone"),
        ("lists/ops.allow.toml", 0o646, "lists/ops.allow.toml", "mode 0646, writable by everyone"),
    ],
)
def test_an_allow_list_that_others_may_write_is_refused(
    home: Path, path: str, mode: int, file: str, found: str
) -> None:
    (home / path).chmod(mode)
    (problem,) = problems()
    assert (problem.file, problem.line, problem.found) == (file, None, found)
    assert problem.expected.endswith(("0644 or stricter", "0755 or stricter"))
    assert problem.remedy == f"Run: chmod go-w {file}"


def test_the_directory_of_many_lists_is_told_once(home: Path) -> None:
    (home / "lists/more.allow.toml").write_text("allow = []")
    (home / "side.toml").write_text(SIDECAR.replace('"api.allow.toml"', '"lists/more.allow.toml"'))
    (home / "lists").chmod(0o777)
    assert [problem.file for problem in problems()] == ["lists"]


def test_the_directory_behind_a_link_counts_too(home: Path) -> None:
    (home / "api.allow.toml").unlink()
    (home / "api.allow.toml").symlink_to("lists/ops.allow.toml")
    (home / "lists").chmod(0o777)
    assert [Path(problem.file).name for problem in problems()] == ["lists"]


def test_a_group_of_ours_may_write_another_may_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "api.allow.toml").chmod(0o664)
    load()
    monkeypatch.setattr(os, "getegid", lambda: 4_000_000)
    monkeypatch.setattr(os, "getgroups", lambda: [4_000_001])
    (problem,) = problems()
    assert "writable by group" in problem.found


def test_unsafe_key_mode_waives_who_may_write(home: Path) -> None:
    (home / "lists").chmod(0o777)
    (home / "side.toml").write_text(SIDECAR.replace("[[inbound]]", "unsafe_key_mode = true\n[[inbound]]", 1))
    load()


def test_the_sidecars_own_file_missing_or_broken_is_one_problem(home: Path) -> None:
    (missing,) = problems("nothere.toml")
    assert str(missing) == (
        "nothere.toml: found no file; expected a sidecar's TOML file -> Create it or correct the name"
    )
    (home / "side.toml").write_text("[identity\n")
    (broken,) = problems()
    assert (broken.file, broken.line) == ("side.toml", 1)


def test_names_are_told_as_one_would_type_them(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file_name(home / "lists" / "x") == "lists/x"
    assert file_name(Path("./lists/../x")) == "x"
    assert file_name(Path("/a")) == "/a"  # shorter than the way there
    gone = home / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert file_name(Path("x")) == "x"


def test_a_faulty_configuration_still_tells_where_the_identity_is(home: Path) -> None:
    (home / "api.allow.toml").unlink()
    with pytest.raises(FaultyConfiguration) as refusal:
        load()
    assert refusal.value.identity == IdentitySettings(home / "identity")
    (home / "side.toml").write_text("[identity]\ndir = 3\n")
    with pytest.raises(FaultyConfiguration) as refusal:
        load()
    assert refusal.value.identity is None


def test_the_admin_address_is_read_whatever_else_is_wrong(home: Path) -> None:
    assert load_admin(Path("side.toml")).listen == DEFAULT_ADMIN
    (home / "side.toml").write_text('[admin]\nlisten = "unix:admin.sock"\n[[inbound]]\nnmae = 3\n')
    assert load_admin(Path("side.toml")).listen == UnixAddress(str(home / "admin.sock"))
    with pytest.raises(FaultyInput):
        load_admin(Path("nothere.toml"))


def test_what_was_kept_makes_the_same_again_whatever_the_files_say_by_now(home: Path) -> None:
    kept = load_and_keep(Path("side.toml"), generation=4)
    assert set(kept.contents) == {Path("side.toml"), home / "api.allow.toml", home / "lists/ops.allow.toml"}
    assert load().contents == {}
    for file in ("side.toml", "api.allow.toml"):
        (home / file).unlink()
    (home / "lists").chmod(0o777)  # who may write it was judged before
    again = load_kept(Path("side.toml"), kept.contents, generation=4)
    assert (again.settings, again.files) == (kept.settings, kept.files)
    assert {name: policy.content_hash for name, policy in again.policies.items()} == {
        name: policy.content_hash for name, policy in kept.policies.items()
    }
    assert {policy.generation for policy in again.policies.values()} == {4}


def test_what_was_not_kept_is_a_fault_and_no_file_is_read_instead(home: Path) -> None:
    kept = load_and_keep(Path("side.toml"))
    missing = {path: content for path, content in kept.contents.items() if path.name != "ops.allow.toml"}
    with pytest.raises(FaultyConfiguration, match="no content"):
        load_kept(Path("side.toml"), missing, generation=1)
    with pytest.raises(FaultyInput, match="no content"):
        load_kept(Path("side.toml"), {}, generation=1)


def test_a_small_file_is_read_without_asking_for_the_memory_of_a_large_one(tmp_path: Path) -> None:
    """Where memory is short there may be none for it, and a look at a file of a kilobyte must not fail for that."""
    small = tmp_path / "small.toml"
    small.write_bytes(b"x" * 100_000)
    tracemalloc.start()
    try:
        assert read_file(small)[0] == b"x" * 100_000
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
