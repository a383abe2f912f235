"""`meshproxy ca`: exit codes, one sentence per mistake, secrets only from files, processes killed at random."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import Encoding

from ca import keys
from ca.audit import audit
from ca.identity_directory import read_identity
from ca.lifetime import INTERMEDIATE_TTL
from ca.premises import ledger_of
from ca.rows import Issued
from ca.spiffe_id import TrustDomain
from ca.svid import judge_leaf, read_chain
from meshproxy.cli.main import cli
from tests.factory import make_mesh_ca

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(cli, arguments, input=typed, prog_name="meshproxy")


def made(*more: str) -> Result:
    result = run("ca", "init", "--dir", "ca", "--trust-domain", "mesh.test", *(more or ("--no-passphrase",)))
    assert result.exit_code == 0, result.output
    return result


def issued(tmp_path: Path) -> list[Issued]:
    with ledger_of(tmp_path / "ca") as ledger, ledger.reading() as view:
        assert list(audit(view)) == []
        return list(view.every(Issued))


def secret(path: Path, content: str = "correct horse\n") -> str:
    path.write_text(content)
    path.chmod(0o600)
    return str(path)


def test_init_prints_the_roots_fingerprint(tmp_path: Path) -> None:
    result = made()
    assert result.stderr == ""
    openssl = subprocess.run(
        ["openssl", "x509", "-in", "ca/trust/bundle.pem", "-noout", "-fingerprint", "-sha256"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    fingerprint = openssl.strip().partition("=")[2].replace(":", "").lower()
    assert f"root SHA-256  {fingerprint}\n" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_init_as_json() -> None:
    report = json.loads(made("--no-passphrase", "--json").stdout)
    assert report["trust_domain"] == "mesh.test"
    assert report["sealed"] is False
    assert re.fullmatch("[0-9a-f]{64}", report["root_sha256"])


def test_issue_writes_a_sound_identity_and_says_so(tmp_path: Path) -> None:
    made()
    result = run("ca", "issue", "/web", "--dir", "ca", "--out", "web", "--dns", "web.internal", "--ip", "::1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "spiffe://mesh.test/web" in result.stdout
    assert "generation 1" in result.stdout
    leaf = read_chain((tmp_path / "web/chain.pem").read_bytes())[0]
    home, now = TrustDomain.parse("mesh.test"), datetime.now(UTC)
    assert str(judge_leaf(leaf.public_bytes(Encoding.DER), home=home, now=now).id) == "spiffe://mesh.test/web"
    again = run("ca", "issue", "spiffe://mesh.test/web", "--dir", "ca", "--out", "web", "--ttl", "5m", "--json")
    report = json.loads(again.stdout)
    assert (report["id"], report["generation"], report["clamped_by"]) == ("spiffe://mesh.test/web", 2, None)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("web",), "'web' is not an identity: write a path such as /web"),
        (("/web/",), "trailing /"),
        (("//web",), "empty path segment"),
        (("/",), "trailing /"),
        (("spiffe://mesh.test",), "names the trust domain itself"),
        (("spiffe://other.test/web",), "another trust domain"),
        (("/meshproxy",), "reserved"),
        (("/meshproxy/ca",), "reserved"),
        (("/web", "--ttl", "4m"), "too short: this CA issues for at least 5 min"),
        (("/web", "--ttl", "8d"), "too long: this CA issues for at most 7 d"),
        (("/web", "--dns", "*.internal"), "no wildcard"),
    ],
)
def test_a_refused_issue_is_one_sentence_and_writes_nothing(
    tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    made()
    result = run("ca", "issue", *arguments, "--dir", "ca", "--out", "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("meshproxy: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
    assert issued(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("/web", "--ttl", "24"), 'expected a duration: a number and one of ms, s, m, h, d, as in "250ms"'),
        (("/web", "--ip", "10.0.0.300"), "expected an address such as 10.0.0.7"),
        ((), "Missing argument"),
        (("/web", "--passphrase-file", "x", "--no-passphrase"), "exclude each other"),
    ],
)
def test_a_usage_error_is_exit_2(arguments: tuple[str, ...], words: str) -> None:
    result = run("ca", "issue", *arguments, "--dir", "ca", "--out", "out")
    assert result.exit_code == 2
    assert words in result.stderr


@pytest.mark.parametrize("name", ["Mesh.test", "", "x" * 256, "mesh test", "spiffe://mesh.test"])
def test_a_bad_trust_domain_is_one_sentence(tmp_path: Path, name: str) -> None:
    result = run("ca", "init", "--dir", "ca", "--trust-domain", name, "--no-passphrase")
    assert result.exit_code == 2
    assert "is not a trust domain" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_occupied_directory_is_refused_before_a_passphrase_is_read(tmp_path: Path) -> None:
    made()
    result = run("ca", "init", "--dir", "ca", "--trust-domain", "mesh.test", "--passphrase-file", "missing")
    assert (result.exit_code, result.stderr) == (
        2,
        "meshproxy: ca already exists and is not an empty directory; name a new one for a new CA\n",
    )


def test_without_a_terminal_somebody_must_say_how_the_keys_are_kept(tmp_path: Path) -> None:
    result = run("ca", "init", "--dir", "ca", "--trust-domain", "mesh.test", typed="secret\nsecret\n")
    assert result.exit_code == 2
    assert "--passphrase-file" in result.stderr
    assert "--no-passphrase" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_sealed_ca_issues_with_its_passphrase_only(tmp_path: Path) -> None:
    made("--passphrase-file", secret(tmp_path / "pass"))
    place = next((tmp_path / "ca/authorities").iterdir())
    assert all(keys.is_sealed((place / name).read_bytes()) for name in ("root.key", "int.key"))
    issue = ("ca", "issue", "/web", "--dir", "ca", "--out", "out")
    for more in ((), ("--no-passphrase",)):
        unasked = run(*issue, *more)
        assert (unasked.exit_code, "--passphrase-file" in unasked.stderr) == (2, True)
    wrong = run(*issue, "--passphrase-file", secret(tmp_path / "wrong", "incorrect\n"))
    assert wrong.exit_code == 2
    assert "this passphrase does not open" in wrong.stderr
    assert "incorrect" not in wrong.output
    assert not (tmp_path / "out").exists()
    assert run(*issue, "--passphrase-file", str(tmp_path / "pass")).exit_code == 0
    assert run(*issue, "--passphrase-file", "-", typed="correct horse\n").exit_code == 0
    key = read_identity(tmp_path / "out").key
    assert key is not None
    assert not keys.is_sealed(key)  # the service's own key: protected by its mode


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        ("secret\n", 0o644, "has mode 0644, readable by everyone; expected 0600"),
        ("secret\n", 0o602, "has mode 0602, writable by everyone"),
        ("", 0o600, "holds no passphrase"),
        ("\nsecret\n", 0o600, "holds no passphrase"),
        ("x" * 1024, 0o600, "longer than 1023 bytes"),
    ],
)
def test_an_unfit_passphrase_file_is_refused(tmp_path: Path, content: str, mode: int, words: str) -> None:
    path = tmp_path / "pass"
    path.write_text(content)
    path.chmod(mode)
    result = run("ca", "init", "--dir", "ca", "--trust-domain", "mesh.test", "--passphrase-file", str(path))
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert words in result.stderr
    assert "secret" not in result.output
    assert not (tmp_path / "ca").exists()


def test_at_a_terminal_a_person_is_asked_twice_and_nothing_is_echoed(tmp_path: Path) -> None:
    """On a pseudo-terminal: the first pair differs, so both are asked again."""
    import pty  # noqa: PLC0415 - not on every platform

    controller, terminal = pty.openpty()
    command = [sys.executable, "-m", "meshproxy", "ca", "init", "--dir", "ca", "--trust-domain", "mesh.test"]
    with subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True) as process:
        os.close(terminal)
        said = b""
        for answer in (b"tr0ub4dor\n", b"troubador\n", b"tr0ub4dor\n", b"tr0ub4dor\n"):
            asked = said.count(b": ")
            while not said.endswith(b": ") or (said.count(b": ") == asked and asked):
                said += os.read(controller, 4096)
            said += b"|"
            os.write(controller, answer)
        try:
            while chunk := os.read(controller, 4096):
                said += chunk
        except OSError:
            pass  # Linux reports the end of a terminal as EIO
        assert process.wait() == 0
    os.close(controller)
    assert b"tr0ub4dor" not in said
    assert b"sealed with the passphrase" in said
    assert (
        run("ca", "issue", "/web", "--dir", "ca", "--out", "o", "--passphrase-file", "-", typed="tr0ub4dor\n").exit_code
        == 0
    )


def test_a_directory_of_something_else_is_not_an_out(tmp_path: Path) -> None:
    made()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").touch()
    result = run("ca", "issue", "/web", "--dir", "ca", "--out", "photos")
    assert (result.exit_code, "not an identity directory: it holds 'cat.jpg'" in result.stderr) == (2, True)
    missing = run("ca", "issue", "/web", "--dir", "nowhere", "--out", "out")
    assert (missing.exit_code, "nowhere holds no CA" in missing.stderr) == (2, True)


@pytest.mark.parametrize("verb", ["init", "issue"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path, verb: str) -> None:
    """The kernel refuses to let any file grow beyond a few bytes, in a process of its own."""
    made()
    arguments = {
        "init": ["ca", "init", "--dir", "new", "--trust-domain", "mesh.test", "--no-passphrase"],
        "issue": ["ca", "issue", "/web", "--dir", "ca", "--out", "new"],
    }[verb]
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64));"
        "from meshproxy.cli.main import main; sys.argv[0] = 'meshproxy'; main()"
    )
    result = subprocess.run(
        [sys.executable, "-B", "-c", limited, *arguments], capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert (
        result.stderr
        == {
            "init": "meshproxy: new was not written: File too large; nothing was left half-written\n",
            "issue": "meshproxy: the ledger ca/ledger.sqlite3 cannot be written (the disk is full, limited or "
            "failing): nothing was recorded or issued; mend it, try again\n",
        }[verb]
    )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["ca"]
    assert issued(tmp_path) == []


def test_a_leaf_longer_than_a_sixth_of_the_intermediate_is_refused() -> None:
    made("--no-passphrase", "--root-ttl", "2d", "--intermediate-ttl", "365d")
    assert run("ca", "issue", "/web", "--dir", "ca", "--out", "web", "--ttl", "8h").exit_code == 0
    too_long = run("ca", "issue", "/web", "--dir", "ca", "--out", "web", "--ttl", "24h")
    assert too_long.exit_code == 2
    assert "1/6 of the life of the intermediate CA" in too_long.stderr


def test_a_certificate_cut_short_by_its_ca_says_so_on_stderr(tmp_path: Path) -> None:
    make_mesh_ca(tmp_path, made=datetime.now(UTC) - INTERMEDIATE_TTL + timedelta(hours=3, seconds=30))
    result = run("ca", "issue", "/web", "--dir", "ca", "--out", "web")
    assert result.exit_code == 0
    assert "lasts     3 h" in result.stdout
    assert "shorter than asked for: the intermediate CA 'mesh intermediate" in result.stderr


def test_secrets_are_in_no_argument_and_help_has_an_example() -> None:
    for command in (("ca",), ("ca", "init"), ("ca", "issue"), ("inspect",), ()):
        result = run(*command, "--help")
        assert result.exit_code == 0
        assert "Example:\n    meshproxy " in result.stdout
        assert "--passphrase " not in result.stdout


@pytest.mark.parametrize("arguments", [("nonsense",), ("ca", "nonsense"), ("--nonsense",), ("ca", "init")])
def test_unknown_commands_and_missing_options_are_exit_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_the_version() -> None:
    assert re.fullmatch(r"meshproxy, version [0-9.]+\n", run("--version").stdout)


def test_help_and_version_import_no_command_they_do_not_need() -> None:
    script = (
        "import sys; sys.argv = ['meshproxy', '--help']\n"
        "from meshproxy.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'ca.authority', 'cryptography', 'trio', 'meshproxy.cli.operate'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.long
def test_real_processes_killed_at_random_moments_leave_a_usable_pair(tmp_path: Path) -> None:
    made()
    assert run("ca", "issue", "/web", "--dir", "ca", "--out", "web").exit_code == 0
    chance = random.Random(7)
    command = [sys.executable, "-m", "meshproxy", "ca", "issue", "/web", "--dir", "ca", "--out", "web"]
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.monotonic() - started
    for _ in range(8):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            try:
                process.wait(timeout=whole * chance.uniform(0.5, 1.05))  # most of it is Python starting up
            except subprocess.TimeoutExpired:
                process.kill()
        found = read_identity(tmp_path / "web")
        assert found.chain is not None
        assert found.key is not None
        assert keys.matches(keys.from_pem(found.key, passphrase=None), read_chain(found.chain)[0])
    assert len(issued(tmp_path)) >= 2
    assert run("ca", "issue", "/web", "--dir", "ca", "--out", "web").exit_code == 0
