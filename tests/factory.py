"""Certificates for tests: a real mesh CA on disk, and a forge for everything such a CA would never issue.

    mesh = make_mesh_ca(tmp_path)                         # trust domain mesh.test, made 30 days ago
    mesh.issue("/web")                                    # tmp_path/web: an identity directory, valid for 24 h
    mesh.issue("/web", into=tmp_path / "old", expired=True)
    mesh.issue("/web", into=tmp_path / "early", not_yet_valid=True)
    foreign = make_mesh_ca(tmp_path / "foreign")          # the very same names, another root
    mesh.forge(into=tmp_path / "two", uris=["spiffe://mesh.test/a", "spiffe://mesh.test/b"])

Each returns an `Identity`: `.directory`, `.id`, `.key`, `.chain`, `.bundle` (paths), `.der` (the leaf). Everything is
in-process; an identity takes a few milliseconds. `issue` goes through `ca.issuing` with a `now` of its own, so what
it makes is what `meshproxy ca issue` makes; `forge` signs whatever it is told with the same intermediate.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ca import SpiffeId, TrustDomain, authority, founding, identity_directory, issuing, keys, lifetime, profiles
from ca.spiffe_id import complete
from ca.svid import read_chain

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric import ec

TRUST_DOMAIN = "mesh.test"
MADE_AGO = timedelta(days=30)  # so that identities can be issued in the past, and be expired today

SERVER_AND_CLIENT = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity directory on disk."""

    directory: Path
    id: SpiffeId | None  # None when the forged certificate holds no sound ID

    @property
    def key(self) -> Path:
        return self.directory / identity_directory.KEY

    @property
    def chain(self) -> Path:
        return self.directory / identity_directory.CHAIN

    @property
    def bundle(self) -> Path:
        return self.directory / identity_directory.BUNDLE

    @property
    def certificate(self) -> x509.Certificate:
        return read_chain(self.chain.read_bytes())[0]

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class MeshCa:
    """A CA in `directory`, opened; identities go beside it, below `workspace`, unless told otherwise."""

    workspace: Path
    directory: Path
    authority: authority.Authority

    @property
    def trust_domain(self) -> TrustDomain:
        return self.authority.trust_domain

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        return (self.authority.root,)

    def id(self, path: str) -> SpiffeId:
        """`/web` as a full ID of this mesh."""
        return complete(path, self.trust_domain)

    def issue(
        self,
        path: str,
        *,
        into: Path | None = None,
        ttl: timedelta | None = None,
        dns: tuple[str, ...] = (),
        now: datetime | None = None,
        expired: bool = False,
        not_yet_valid: bool = False,
    ) -> Identity:
        """An identity as `ca issue` makes it: today's, one that expired days ago, or one of tomorrow.

        `into` defaults to the path's last segment below `workspace`; issuing again renews it there. `now` is the moment
        of issuing and overrides the two words.
        """
        today = datetime.now(UTC)
        shift = timedelta(days=-3 if expired else 2 if not_yet_valid else 0)
        identity = self.id(path)
        directory = into or self.workspace / path.rpartition("/")[2]
        request = issuing.SvidRequest(profiles.Names(identity, dns=dns), ttl)
        issuing.issue_into(self.authority, request, directory, now=now or today + shift)
        return Identity(directory, identity)

    def forge(
        self,
        *,
        into: Path,
        uris: tuple[str, ...] | list[str] = (f"spiffe://{TRUST_DOMAIN}/forged",),
        dns: tuple[str, ...] = (),
        not_before: datetime | None = None,
        not_after: datetime | None = None,
        is_ca: bool | None = False,
        digital_signature: bool = True,
        cert_sign: bool = False,
        crl_sign: bool = False,
        with_key_usage: bool = True,
        extended_key_usage: tuple[x509.ObjectIdentifier, ...] | None = SERVER_AND_CLIENT,
        extra: tuple[x509.ExtensionType, ...] = (),
        critical: tuple[x509.ExtensionType, ...] = (),
        subject: str = "",
        key: ec.EllipticCurvePrivateKey | None = None,
        above: tuple[x509.Certificate, ...] = (),
    ) -> Identity:
        """An identity directory around a leaf of exactly these extensions, signed by the real intermediate.

        `is_ca=None` leaves basicConstraints out, `extended_key_usage=None` that extension; `extra` adds extensions as
        they are (not critical), `critical` such that are. `above` follows the intermediate in the chain.
        """
        now = datetime.now(UTC).replace(microsecond=0)
        key = key or keys.generate()
        issuer = self.authority.intermediate
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)] if subject else []))
            .issuer_name(issuer.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before or now - lifetime.BACKDATE)
            .not_valid_after(not_after or now + timedelta(hours=24))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority.key.public_key()), critical=False
            )
        )
        names = [*map(x509.UniformResourceIdentifier, uris), *map(x509.DNSName, dns)]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
        if is_ca is not None:
            builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        if with_key_usage:
            builder = builder.add_extension(
                profiles.key_usage(digital_signature=digital_signature, key_cert_sign=cert_sign, crl_sign=crl_sign),
                critical=True,
            )
        if extended_key_usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage(extended_key_usage), critical=False)
        for extension in (*extra, *critical):
            builder = builder.add_extension(extension, critical=extension in critical)
        certificate = builder.sign(self.authority.key, hashes.SHA256())
        identity_directory.write_identity(
            into,
            key=keys.to_pem(key, passphrase=None),
            chain=b"".join(each.public_bytes(Encoding.PEM) for each in (certificate, issuer, *above)),
            bundle=self.authority.bundle_pem,
        )
        try:
            identity = SpiffeId.parse(uris[0]) if len(uris) == 1 else None
        except ValueError:
            identity = None
        return Identity(into, identity)


def make_mesh_ca(
    workspace: Path,
    *,
    trust_domain: str = TRUST_DOMAIN,
    made: datetime | None = None,
    intermediate_ttl: timedelta = lifetime.INTERMEDIATE_TTL,
    root_ttl: timedelta = lifetime.ROOT_TTL,
) -> MeshCa:
    """A CA without passphrase in `workspace`/ca, made 30 days ago unless `made` says when.

    Two of them in different workspaces have the same names and nothing else in common: each is the other's foreign CA.
    """
    directory = workspace / "ca"
    opened = founding.initialise(
        directory,
        TrustDomain.parse(trust_domain),
        passphrase=None,
        now=made or datetime.now(UTC) - MADE_AGO,
        name="mesh",
        intermediate_ttl=intermediate_ttl,
        root_ttl=root_ttl,
    )
    return MeshCa(workspace, directory, opened)
