"""A trust bundle as SPIFFE writes it: a JWK Set.

It says which roots a trust domain has, under a number that only ever grows, and how often to ask again. The rules are
those of spiffe/spiffe, standards/SPIFFE_Trust_Domain_and_Bundle.md, section 4.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from ca import base64url
from ca.bundle import BundleError, is_root, require_home
from ca.spiffe_id import SCHEME, SpiffeId
from ca.svid import UNREADABLE, read_certificate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ca.spiffe_id import TrustDomain

_USE: Final = "x509-svid"
_CURVES: Final = {"secp256r1": ("P-256", 32), "secp384r1": ("P-384", 48)}
_KTY: Final = frozenset({"EC", "RSA", "OKP"})
_MOST_SECONDS: Final = 30 * 86400


@dataclass(frozen=True, slots=True)
class SpiffeBundle:
    """The roots of a trust domain. No roots: nobody of it is to be believed (section 4.2.1).

    `sequence` grows with every change; `refresh_hint` is in seconds. Either may be unsaid.
    """

    roots: tuple[x509.Certificate, ...]
    sequence: int | None = None
    refresh_hint: int | None = None


def write(bundle: SpiffeBundle) -> bytes:
    """The bundle as JSON, for people too."""
    document: dict[str, object] = {"keys": [_jwk(root) for root in bundle.roots]}
    if bundle.sequence is not None:
        document["spiffe_sequence"] = bundle.sequence
    if bundle.refresh_hint is not None:
        document["spiffe_refresh_hint"] = bundle.refresh_hint
    return json.dumps(document, indent=2).encode() + b"\n"


def read(document: bytes, *, home: TrustDomain | None) -> SpiffeBundle:
    """Read a bundle of trust domain `home`; what it does not know in there, it passes over, as section 4 demands.

    `home` None: whoever reads it does not know yet, and judges the roots by something else (a token's pins).

    Raises BundleError for what is no bundle, for a name that stands twice in one object, and for a root that is not a
    self-signed CA or says that it is of another trust domain.
    """
    try:
        outer = json.loads(document, object_pairs_hook=_unambiguous)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"no SPIFFE bundle: {error}") from error
    keys = outer.get("keys") if isinstance(outer, dict) else None
    if not isinstance(keys, list):
        raise BundleError("no SPIFFE bundle: it has no array of keys")
    roots = (_root(key, home) for key in keys if _is_ours(key))
    return SpiffeBundle(
        tuple(dict.fromkeys(roots)), _number(outer, "spiffe_sequence"), _number(outer, "spiffe_refresh_hint")
    )


def claimed_home(root: x509.Certificate) -> TrustDomain | None:
    """The trust domain that a root says it is of, or None when it says nothing of the kind (a corporate root)."""
    try:
        names = root.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
        return next((SpiffeId.parse(uri).trust_domain for uri in uris if uri.startswith(SCHEME)), None)
    except (x509.ExtensionNotFound, *UNREADABLE):
        return None


def _jwk(root: x509.Certificate) -> dict[str, object]:
    """RFC 7517 with the parameters of RFC 7518 6; no kid, and one certificate in x5c (section 6.1 of SPIFFE's)."""
    key = root.public_key()
    match key:
        case ec.EllipticCurvePublicKey() if key.curve.name in _CURVES:
            name, size = _CURVES[key.curve.name]
            point = key.public_numbers()
            parameters = {
                "kty": "EC",
                "crv": name,
                "x": base64url.encode(point.x.to_bytes(size, "big")),
                "y": base64url.encode(point.y.to_bytes(size, "big")),
            }
        case rsa.RSAPublicKey():
            numbers = key.public_numbers()
            parameters = {"kty": "RSA"} | {
                name: base64url.encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))
                for name, value in (("n", numbers.n), ("e", numbers.e))
            }
        case _:
            raise BundleError("a root whose kind of key has no JWK here: expected P-256, P-384 or RSA")
    return {"use": _USE} | parameters | {"x5c": [base64.b64encode(root.public_bytes(Encoding.DER)).decode()]}


def _is_ours(key: object) -> bool:
    """Whether a key is an authority of X509-SVIDs; others, and unknown kinds, are passed over (section 4.2.2)."""
    return isinstance(key, dict) and key.get("use") == _USE and key.get("kty") in _KTY and bool(key.get("x5c"))


def _root(key: dict[str, object], home: TrustDomain | None) -> x509.Certificate:
    x5c = key["x5c"]
    first = x5c[0] if isinstance(x5c, list) else None  # all but the first are passed over (section 6.1)
    if not isinstance(first, str):
        raise BundleError("a key whose x5c is not a list of texts")
    try:
        root = read_certificate(base64.b64decode(first, validate=True))
    except (ValueError, binascii.Error) as error:
        raise BundleError(f"a key whose x5c is {error}") from error
    if not is_root(root):
        raise BundleError("an authority that is not a self-signed CA, so TLS could not end a chain at it")
    if home is not None:
        require_home(root, home)
    return root


def _number(outer: dict[str, object], name: str) -> int | None:
    value = outer.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
        raise BundleError(f"no SPIFFE bundle: its {name} is not a whole number")
    return min(value, _MOST_SECONDS) if name == "spiffe_refresh_hint" else value


def _unambiguous(pairs: Iterable[tuple[str, object]]) -> dict[str, object]:
    """An object in which no name stands twice: two readers could take either (RFC 8259 4)."""
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{name[:80]!a} stands twice in one object")
        found[name] = value
    return found
