"""`meshproxy inspect`: files, directories and endpoints; exit codes; what a person reads on 80 columns."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.serialization import Encoding

from ca import keys
from meshproxy.cli.main import cli
from tests.factory import Identity, MeshCa, make_mesh_ca

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def mesh(tmp_path: Path) -> MeshCa:
    return make_mesh_ca(tmp_path)


@pytest.fixture
def web(mesh: MeshCa) -> Identity:
    return mesh.issue("/web", dns=("web.internal",))


def inspect(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["inspect", *map(str, arguments)], prog_name="meshproxy")


def test_a_sound_identity_directory_is_fine(web: Identity) -> None:
    result = inspect(web.directory)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "spiffe://mesh.test/web: fine"
    assert max(map(len, lines[2:])) <= 80  # the second names the directory, however long it is
    for words in ("web.internal", "23 h 59 min left", "P-256, the private key matches", "leads up to a root"):
        assert words in result.stdout
    assert "\x1b[" not in result.stdout


def test_json_holds_the_same_and_more(web: Identity) -> None:
    report = json.loads(inspect(web.directory, "--json").stdout)
    assert (report["verdict"], report["id"], report["trusted"], report["key_matches"]) == (
        "fine",
        "spiffe://mesh.test/web",
        True,
        True,
    )
    assert report["endpoint"] is None
    assert report["findings"] == []
    assert report["leaf"]["sha256"]
    assert len(report["authorities"]) == 2


def test_a_chain_file_is_judged_by_the_bundle_named(web: Identity, tmp_path: Path) -> None:
    alone = inspect(web.chain)
    assert (alone.exit_code, "not judged, for want of a bundle" in alone.stdout) == (0, True)
    judged = inspect(web.chain, "--bundle", web.bundle)
    assert (judged.exit_code, "leads up to a root" in judged.stdout) == (0, True)
    foreign = make_mesh_ca(tmp_path / "foreign").issue("/web")
    for option in (("--bundle", foreign.bundle), ("--identity", foreign.directory)):
        refused = inspect(web.chain, *option)
        assert refused.exit_code == 1
        assert "it is not trusted: nothing in chain or bundle" in refused.stdout


def test_a_der_file_is_read_too(web: Identity, tmp_path: Path) -> None:
    (tmp_path / "leaf.der").write_bytes(web.der)
    assert inspect(tmp_path / "leaf.der").stdout.startswith("spiffe://mesh.test/web: fine\n")


def test_an_expired_identity_is_wrong(mesh: MeshCa, tmp_path: Path) -> None:
    result = inspect(mesh.issue("/web", into=tmp_path / "old", expired=True).directory)
    assert result.exit_code == 1
    assert result.stdout.startswith("spiffe://mesh.test/web: wrong\n")
    assert "expired 2 d" in result.stdout


def test_keys_that_do_not_fit_or_cannot_be_kept_secret_are_wrong(mesh: MeshCa, web: Identity) -> None:
    web.key.chmod(0o644)
    loose = inspect(web.directory)
    assert (loose.exit_code, "key.pem has mode 0644, readable by everyone" in loose.stdout) == (1, True)
    web.key.chmod(0o600)
    web.key.write_bytes(keys.to_pem(mesh.authority.key, passphrase=None))
    other = inspect(web.directory)
    assert (other.exit_code, "the private key does not match" in other.stdout) == (1, True)
    web.key.write_bytes(b"rubbish")
    assert "key.pem holds no private key" in inspect(web.directory).stdout
    web.key.write_bytes(keys.to_pem(mesh.authority.key, passphrase=b"x"))
    sealed = inspect(web.directory)
    assert (sealed.exit_code, "key.pem is sealed, so it was not tried" in sealed.stdout) == (0, True)


def test_what_others_may_write_is_wrong(web: Identity) -> None:
    web.directory.chmod(0o777)
    (web.directory / "current").resolve().joinpath("bundle.pem").chmod(0o666)
    result = inspect(web.directory)
    assert result.exit_code == 1
    shown = " ".join(result.stdout.split())
    assert "has mode 0777, writable by everyone" in shown
    assert "has mode 0666, writable by everyone" in shown


def test_a_flat_directory_lacking_files_says_which(web: Identity, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir(mode=0o700)
    assert "holds no chain.pem" in inspect(flat).stderr
    shutil.copy(web.chain, flat / "chain.pem")
    result = inspect(flat)
    assert result.exit_code == 1
    assert "there is no key.pem" in result.stdout
    assert "there is no bundle.pem" in result.stdout
    (flat / "bundle.pem").write_bytes(b"nothing")
    assert "cannot judge it: no certificate" in " ".join(inspect(flat).stdout.split())


def test_cas_are_told_from_identities(mesh: MeshCa) -> None:
    for target in (mesh.directory, mesh.directory / "trust/bundle.pem"):
        result = inspect(target)
        assert result.exit_code == 0
        assert result.stdout.startswith("spiffe://mesh.test: fine\n")
        assert "CN=mesh root" in result.stdout
        assert "9 y 334 d left" in result.stdout


def test_a_hostile_claim_cannot_move_the_cursor_or_forge_a_line(mesh: MeshCa, tmp_path: Path) -> None:
    forged = mesh.forge(into=tmp_path / "x", uris=["spiffe://mesh.test/web: fine\n\x1b[2Kspiffe://mesh.test/admin"])
    result = inspect(forged.directory)
    assert result.exit_code == 1
    assert "\x1b" not in result.output
    assert result.stdout.splitlines()[0].startswith("claims spiffe://mesh.test/web: fine\\n\\x1b[2K")
    json.loads(inspect(forged.directory, "--json").stdout)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "holds no certificate"),
        (b"hello", "holds no certificate"),
        (b"\x30\x03\x02\x01\x00", "holds a certificate that cannot be read"),
        (b"x" * (1 << 20) + b"x", "larger than 1 MiB"),
    ],
)
def test_an_unreadable_file_is_exit_2(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "file").write_bytes(content)
    result = inspect(tmp_path / "file")
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_what_is_neither_file_nor_endpoint_is_exit_2(tmp_path: Path) -> None:
    result = inspect(tmp_path / "none")
    assert result.exit_code == 2
    assert "is no file, no directory and no endpoint; expected host:port" in result.stderr
    assert inspect("127.0.0.1:1", "--timeout", "5").exit_code == 2
    assert "nothing to judge by" in inspect("127.0.0.1:1", "--identity", tmp_path / "none").stderr


# --- a live endpoint


@pytest.fixture
def endpoint(web: Identity) -> Iterator[str]:
    """A server of the identity /web that demands a certificate of the mesh, for as long as the test lasts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(web.chain, web.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(web.bundle)
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def serve() -> None:
            while True:
                try:
                    plain, _ = listener.accept()
                except OSError:
                    return  # shut down below: the test is over
                with plain, suppress(OSError), context.wrap_socket(plain, server_side=True) as tls:
                    tls.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_an_endpoint_is_told_and_judged_by_ones_own_identity(mesh: MeshCa, endpoint: str, tmp_path: Path) -> None:
    own = mesh.issue("/operator")
    result = inspect(endpoint, "--identity", own.directory)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("spiffe://mesh.test/web: fine\n")
    assert f"{endpoint}, TLSv1.3, TLS_" in result.stdout
    assert "leads up to a root" in result.stdout
    report = json.loads(inspect(endpoint, "--identity", own.directory, "--json").stdout)
    assert report["endpoint"]["outcome"] == "completed"
    assert report["endpoint"]["tls_version"] == "TLSv1.3"


def test_without_an_identity_it_is_seen_all_the_same_with_advice(endpoint: str) -> None:
    result = inspect(endpoint)
    assert result.exit_code == 0
    assert result.stdout.startswith("spiffe://mesh.test/web: fine, with warnings\n")
    assert "offer an identity with --identity DIR" in " ".join(result.stdout.split())


def test_a_foreign_mesh_finds_it_wrong(endpoint: str, tmp_path: Path) -> None:
    foreign = make_mesh_ca(tmp_path / "foreign").issue("/operator")
    result = inspect(endpoint, "--identity", foreign.directory)
    assert result.exit_code == 1
    assert "it is not trusted" in result.stdout
    elsewhere = make_mesh_ca(tmp_path / "elsewhere", trust_domain="elsewhere.test").issue("/operator")
    assert "expected elsewhere.test" in inspect(endpoint, "--identity", elsewhere.directory).stdout


def test_an_identity_that_cannot_be_offered_is_exit_2(endpoint: str, mesh: MeshCa) -> None:
    own = mesh.issue("/operator")
    own.key.write_bytes(keys.to_pem(keys.generate(), passphrase=None))
    result = inspect(endpoint, "--identity", own.directory)
    assert result.exit_code == 2
    assert "cannot be offered" in result.stderr


def test_nobody_there_and_nothing_like_tls_are_exit_2() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    result = inspect(f"127.0.0.1:{port}")
    assert (result.exit_code, result.stderr) == (
        2,
        f"meshproxy: 127.0.0.1:{port}: the connection was refused: nobody listens there\n",
    )


def test_der_of_a_root_is_a_ca(mesh: MeshCa, tmp_path: Path) -> None:
    (tmp_path / "root.der").write_bytes(mesh.authority.root.public_bytes(Encoding.DER))
    assert inspect(tmp_path / "root.der").stdout.startswith("spiffe://mesh.test: fine\n")
