"""What settings need of the machine, and what is said when that is more than the sandbox of this process allows."""

from __future__ import annotations

import errno
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from meshproxy.errors import StartError
from meshproxy.runtime import landlock
from meshproxy.runtime.sandbox import Needs, Sandbox, enter, needs_of
from meshproxy.settings.load import Configuration
from meshproxy.settings.schema import (
    AdminSettings,
    AuditSettings,
    IdentitySettings,
    Inbound,
    Outbound,
    PolicyDirectory,
    Protocol,
    RuntimeSettings,
    Sandboxing,
    Settings,
)
from meshproxy.wire.address import TcpAddress, UnixAddress

if TYPE_CHECKING:
    from collections.abc import Callable


def settings_in(base: Path) -> Settings:
    return Settings(
        IdentitySettings(base / "identity"),
        (
            Inbound(
                "api",
                TcpAddress("0.0.0.0", 8443),
                TcpAddress("127.0.0.1", 8080),
                Protocol.HTTP,
                base / "lists" / "api.toml",
            ),
        ),
        (
            Outbound(
                "ledger",
                UnixAddress(str(base / "sockets" / "l.sock")),
                "/ledger",
                (TcpAddress("ledger", 9443), UnixAddress("/run/far.sock")),
                Protocol.HTTP,
            ),
        ),
        AdminSettings(UnixAddress(str(base / "admin.sock")), TcpAddress("0.0.0.0", 9901)),
    )


def configured(base: Path, settings: Settings) -> Configuration:
    for name in ("identity", "lists", "sockets"):
        (base / name).mkdir(exist_ok=True)
    return Configuration(settings, {}, (base / "side.toml", base / "lists" / "api.toml"))


def needs(base: Path, settings: Settings) -> Needs:
    return needs_of(settings, configured(base, settings).files)


def test_what_the_settings_name_is_needed_and_the_directories_where_names_are_switched(tmp_path: Path) -> None:
    found = needs(tmp_path, settings_in(tmp_path))
    assert found == Needs(
        reads=frozenset({tmp_path, tmp_path / "lists", tmp_path / "identity"}),
        changes=frozenset(),
        sockets=frozenset({tmp_path, tmp_path / "sockets"}),
        binds=frozenset({8443, 9901}),
        connects=frozenset({8080, 9443, 53}),
    )


def test_both_ends_of_a_link_are_needed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "releases" / "7"
    elsewhere.mkdir(parents=True)
    (tmp_path / "lists").symlink_to(elsewhere)
    settings = settings_in(tmp_path)
    found = needs_of(settings, [tmp_path / "lists" / "api.toml"])
    assert {elsewhere, tmp_path} <= found.reads


def test_a_ca_and_an_audit_log_are_written_to(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    identity = replace(settings.identity, ca=(TcpAddress("ca", 8440),), token_file=tmp_path / "tokens" / "web.token")
    found = needs(tmp_path, replace(settings, identity=identity, audit=AuditSettings(tmp_path / "audit" / "a.jsonl")))
    assert found.changes == {tmp_path / "identity", tmp_path / "audit"}
    assert tmp_path / "tokens" in found.reads
    assert 8440 in found.connects


def test_a_file_in_the_root_directory_does_not_open_all_of_it(tmp_path: Path) -> None:
    found = needs_of(settings_in(tmp_path), [Path("/side.toml")])
    assert Path("/side.toml") in found.reads
    assert Path("/") not in found.reads


def audited(base: Path) -> Callable[[Settings], Settings]:
    return lambda settings: replace(settings, audit=AuditSettings(base.parent / "elsewhere" / "a.jsonl"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda inbound: replace(inbound, listen=TcpAddress("0.0.0.0", 8444)), ("listening on TCP port 8444",)),
        (lambda inbound: replace(inbound, forward=TcpAddress("127.0.0.1", 81)), ("connecting to TCP port 81",)),
        (lambda inbound: replace(inbound, forward=UnixAddress("/run/app.sock")), ()),
        (lambda inbound: replace(inbound, listen=UnixAddress("/srv/a.sock")), ("a unix socket in /srv",)),
        (lambda inbound: replace(inbound, policy=PolicyDirectory(Path("/srv/lists"))), ("files in /srv",)),
        (lambda inbound: replace(inbound, send_proxy=True), ()),
    ],
)
def test_what_goes_beyond_is_said_in_words(
    tmp_path: Path, change: Callable[[Inbound], Inbound], words: tuple[str, ...]
) -> None:
    before = settings_in(tmp_path)
    box = Sandbox(needs(tmp_path, before), kernel=7)
    after = configured(tmp_path, replace(before, inbound=tuple(map(change, before.inbound))))
    told = box.beyond(after)
    assert told[: len(words)] == words
    assert (told == ()) == (words == ())


def test_without_landlock_everything_is_to_be_had_and_before_version_4_every_port(tmp_path: Path) -> None:
    before = settings_in(tmp_path)
    moved = replace(before, inbound=(replace(before.inbound[0], listen=TcpAddress("0.0.0.0", 8444)),))
    after = configured(tmp_path, moved)
    granted = needs(tmp_path, before)
    assert Sandbox(granted, kernel=0).beyond(after) == ()
    assert Sandbox(granted, kernel=3).beyond(after) == ()
    assert Sandbox(granted, kernel=4).beyond(after) == ("listening on TCP port 8444",)
    assert Sandbox(granted, kernel=3).unreadable([Path("/srv/x/list")]) == ("files in /srv/x",)
    assert [str(Sandbox(granted, each)) for each in (0, 3, 4)] == [
        "none",
        "landlock 3: files",
        "landlock 4: files and TCP ports",
    ]


@pytest.mark.parametrize("wanted", list(Sandboxing))
def test_a_kernel_without_landlock_is_borne_unless_it_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Sandboxing
) -> None:
    monkeypatch.setattr(landlock, "version", lambda: 0)
    settings = replace(settings_in(tmp_path), runtime=RuntimeSettings(sandbox=wanted))
    if wanted is Sandboxing.REQUIRE:
        with pytest.raises(StartError, match='write sandbox = "auto" to go without'):
            enter(configured(tmp_path, settings), workers=1)
    else:
        assert enter(configured(tmp_path, settings), workers=1) == Sandbox()


@pytest.mark.parametrize("wanted", [Sandboxing.AUTO, Sandboxing.REQUIRE])
def test_a_kernel_that_refuses_is_borne_unless_it_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: Sandboxing
) -> None:
    def refuse(_rules: landlock.Rules, *, kernel: int) -> None:
        raise OSError(errno.E2BIG, f"too many layers for {kernel}")

    monkeypatch.setattr(landlock, "version", lambda: 7)
    monkeypatch.setattr(landlock, "restrict_self", refuse)
    settings = replace(settings_in(tmp_path), runtime=RuntimeSettings(sandbox=wanted))
    if wanted is Sandboxing.REQUIRE:
        with pytest.raises(StartError, match="the kernel refuses it: too many layers for 7"):
            enter(configured(tmp_path, settings), workers=1)
    else:
        assert enter(configured(tmp_path, settings), workers=1) == Sandbox()


@pytest.mark.skipif(sys.platform != "linux", reason="Landlock is Linux's")
def test_the_version_is_a_number_wherever_we_run() -> None:
    assert landlock.version() >= 0
