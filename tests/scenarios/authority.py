"""A CA that serves, as a real process, and whoever asks it: plain sockets and the standard library, so that nothing of
ours judges our own answers.

    ca = serve(stage)                                  # a CA of its own, in the stage's workspace
    web = ca.client()                                  # somebody with a key
    web.enrol(ca.token("/web"))                        # -> Said; web.chain is his from now on
    web.renew(); web.trust(loaded=1)
"""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import tempfile
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from ca import invitations, keys, premises, tokens
from ca.audit import audit
from ca.invitations import Invitation
from ca.profiles import Names
from ca.svid import read_chain
from meshproxy.enroll.late import to_be_signed
from meshproxy.runtime.telling import wall_clock
from tests.factory import Identity, MeshCa, make_mesh_ca
from tests.scenarios.stage import PATIENCE, Sidecar, meshproxy

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ca.rows import Issued
    from ca.tokens import JoinToken
    from tests.scenarios.stage import Stage

Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Said:
    """What the CA answered."""

    status: int
    content_type: str
    retry_after: str | None
    body: bytes
    allow: str = ""

    @property
    def json(self) -> dict[str, Any]:
        found = json.loads(self.body)
        assert isinstance(found, dict)
        return found

    @property
    def why(self) -> str:
        """The word of a refusal."""
        assert self.content_type == "application/problem+json", self
        assert self.json["status"] == self.status
        return str(self.json["why"])

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that was given."""
        assert self.status == 200, self.body
        return read_chain(self.json["chain"].encode())[0]


@dataclass
class Client:
    """Somebody who asks. `context` may be replaced, to play somebody who should not be let in."""

    address: str
    roots: str
    key: Key = field(default_factory=keys.generate)
    chain: str = ""

    @property
    def leaf_issuer(self) -> str:
        """The subject of the intermediate that signed his certificate."""
        return read_chain(self.chain.encode())[0].issuer.rfc4514_string()

    def context(self) -> ssl.SSLContext:
        """TLS as a client of the CA does it, with a certificate if there is one."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.load_verify_locations(cadata=self.roots)
        if self.chain:
            with tempfile.NamedTemporaryFile() as file:
                file.write(keys.to_pem(self.key, passphrase=None) + self.chain.encode())
                file.flush()
                context.load_cert_chain(file.name)
        return context

    def ask(self, method: str, path: str, body: object = None) -> Said:
        """Ask anything; `body` is sent as JSON, or as it is when it is bytes."""
        host, _, port = self.address.rpartition(":")
        connection = http.client.HTTPSConnection(host, int(port), timeout=PATIENCE, context=self.context())
        with contextlib.closing(connection):
            raw = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
            connection.request(method, path, raw, {"Content-Type": "application/json"} if raw else {})
            answer = connection.getresponse()
            return Said(
                answer.status,
                answer.getheader("content-type", ""),
                answer.getheader("retry-after"),
                answer.read(),
                answer.getheader("allow", ""),
            )

    def enrol(self, token: JoinToken, *, secret: bytes | None = None) -> Said:
        """Use a token; what is given is his from then on."""
        said = self.ask(
            "POST",
            "/v1/enroll",
            {"token": token.id.hex(), "secret": text(secret or token.secret), "csr": text(csr(self.key))},
        )
        if said.status == 200:
            self.chain = said.json["chain"]
        return said

    def renew(self, key: Key | None = None) -> Said:
        """Ask for the next certificate, with a new key; both are his from then on."""
        fresh = key or keys.generate()
        said = self.ask("POST", "/v1/renew", {"csr": text(csr(fresh))})
        if said.status == 200:
            self.key, self.chain = fresh, said.json["chain"]
        return said

    def renew_expired(self, key: Key | None = None, *, nonce: bytes | None = None) -> Said:
        """Ask for the next certificate with one that TLS takes no more."""
        fresh, chain = key or keys.generate(), self.chain
        leaf = read_chain(chain.encode())[0].public_bytes(Encoding.DER)
        self.chain = ""  # none is presented
        nonce = nonce or b64decode(self.ask("GET", "/v1/nonce").json["nonce"])
        request = csr(fresh)
        signature = self.key.sign(to_be_signed(nonce, request), ec.ECDSA(hashes.SHA256()))
        asked = {"leaf": text(leaf), "nonce": text(nonce), "signature": text(signature), "csr": text(request)}
        said = self.ask("POST", "/v1/renew-expired", asked)
        self.chain = chain
        if said.status == 200:
            self.key, self.chain = fresh, said.json["chain"]
        return said

    def trust(self, *, loaded: int | None = None) -> Said:
        """Ask whom to believe."""
        return self.ask("GET", "/v1/trust" if loaded is None else f"/v1/trust?loaded={loaded}")


class CaServer(Sidecar):
    """One `meshproxy ca serve` in the foreground of its own process."""

    def __init__(self, mesh: MeshCa, *more: str | Path) -> None:
        listen = () if "--listen" in more else ("--listen", "127.0.0.1:0")
        super().__init__(
            mesh.directory, "ca", "serve", "--dir", mesh.directory, *listen, "--admin", "127.0.0.1:0", *more
        )
        self.mesh = mesh

    @property
    def listens(self) -> str:
        """Where it is asked."""
        return self.address("ca")

    @property
    def directory(self) -> Path:
        """Its directory."""
        return self.mesh.directory

    @property
    def status_json(self) -> dict[str, Any]:
        """`/status`."""
        return self.get("/status").json

    def run(self, *arguments: str | Path) -> str:
        """Run `meshproxy ca ...` on its directory, which must go well; what it printed."""
        done = meshproxy("ca", *arguments, "--dir", self.directory)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def token(self, path: str, *dns: str) -> JoinToken:
        """A new token, made as the command makes it, in this process: starting another one takes a second."""
        configured = premises.read_configuration(self.directory)
        with premises.ledger_of(self.directory) as ledger:
            return invitations.create(configured, ledger, Invitation(Names(self.mesh.id(path), dns)), now=wall_clock())

    def token_by_command(self, path: str) -> JoinToken:
        """A new token, made by the command."""
        return tokens.decode(self.run("token", "create", path).strip())

    def client(self, *, key: Key | None = None, address: str | None = None) -> Client:
        """Somebody who trusts it."""
        roots = (self.directory / "trust/bundle.pem").read_text()
        return Client(address or self.listens, roots, key or keys.generate())

    def holder(self, identity: Identity) -> Client:
        """Somebody who holds an identity directory, of whatever CA."""
        key = load_pem_private_key(identity.key.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        found = self.client(key=key)
        found.chain = identity.chain.read_text()
        return found

    def issued(self, path: str) -> list[Issued]:
        """What the ledger holds of an identity; its chain must be sound."""
        with premises.ledger_of(self.directory) as ledger, ledger.reading() as view:
            assert list(audit(view)) == []
            return list(view.leaves(id=f"spiffe://mesh.test{path}"))


def serve(stage: Stage, *more: str | Path, configure: Callable[[Path], object] = lambda _directory: None) -> CaServer:
    """A new CA, serving; `configure` may change its directory before. Nobody is held back there unless it says so."""
    mesh = make_mesh_ca(stage.workspace / "own")
    unhurried(mesh.directory)
    configure(mesh.directory)
    return stage.look_after(CaServer(mesh, *more))


def unhurried(directory: Path, rates: str = "") -> None:
    """Let everybody ask as often as he likes, unless told otherwise."""
    free = "enrol_per_address = 1000\nenrol_burst_per_address = 1000\nenrol_total = 1000\n"
    free += "renew_per_identity_per_minute = 1000\n"
    with (directory / "ca.toml").open("a") as file:
        file.write(f"\n[rates]\n{rates or free}")


def csr(key: Key) -> bytes:
    """A request for a certificate."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def text(content: bytes) -> str:
    """Bytes as JSON carries them."""
    return b64encode(content).decode()
