"""Events for tests of the ledger, without a certificate anywhere: the ledger believes what it is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ca import events
from ca.events import By, What

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DAY = timedelta(days=1)
WEB = "spiffe://mesh.test/web"


def init() -> events.Init:
    return events.Init(at=NOW, uid=0, trust_domain="mesh.test")


def issue(serial: str = "1", *, id: str = WEB, token: str | None = None, issuer: str = "aa") -> events.Issue:  # noqa: A002
    return events.Issue(
        at=NOW,
        id=id,
        issuer=issuer,
        serial=serial,
        fingerprint="f" + serial,
        spki="k" + serial,
        not_before=NOW,
        not_after=NOW + DAY,
        ttl=86400,
        bundle_sequence=1,
        token=token,
        certificate=b"der of " + serial.encode(),
    )


def renew(previous: str, serial: str, *, id: str = WEB, issuer: str = "aa") -> events.Renew:  # noqa: A002
    return events.Renew(
        at=NOW,
        id=id,
        issuer=issuer,
        serial=serial,
        fingerprint="f" + serial,
        spki="k" + serial,
        not_before=NOW,
        not_after=NOW + DAY,
        previous_issuer=issuer,
        previous_serial=previous,
    )


def token(name: str = "t1", *, uses: int = 1) -> events.TokenCreate:
    return events.TokenCreate(
        at=NOW, token=name, secret_sha256="s" + name, id=WEB, expires=NOW + timedelta(minutes=10), uses=uses
    )


def use(name: str = "t1", number: int = 1, *, serial: str = "1") -> events.TokenUse:
    return events.TokenUse(
        at=NOW, token=name, use=number, spki="k" + serial, issuer="aa", serial=serial, peer="10.0.0.1"
    )


def revoke(subject: str = "1", *, by: By = By.SERIAL, at: datetime = NOW) -> events.Revoke:
    return events.Revoke(
        at=at,
        by=by,
        subject=subject,
        issuer="aa" if by is By.SERIAL else "",
        cutoff=at if by is By.ID else None,
        until=at + DAY,
    )


def prepare(slot: str = "0001-aa", *, what: What = What.ROOT, root: str | None = None) -> events.RotatePrepare:
    """The key ids are the name's: `aa` for the intermediate, `root-aa` for a root of its own."""
    name = slot[5:]
    return events.RotatePrepare(
        at=NOW,
        what=what,
        slot=slot,
        key_id=name,
        root_key_id=root or f"root-{name}",
        certificate=b"int " + name.encode(),
        root_certificate=b"root " + (root or name).encode(),
    )


def activate(slot: str = "0001-aa", *, what: What = What.ROOT) -> events.RotateActivate:
    return events.RotateActivate(at=NOW, what=what, slot=slot)


def retire(slot: str, *, what: What = What.ROOT) -> events.RotateRetire:
    return events.RotateRetire(at=NOW, what=what, slot=slot)


def taint(slot: str, *, what: What = What.ROOT) -> events.RotateTaint:
    return events.RotateTaint(at=NOW, what=what, slot=slot)


def bundle(number: int) -> events.PublishBundle:
    return events.PublishBundle(at=NOW, sequence=number, roots=("r",))


def beginning() -> list[events.Event]:
    return [init(), prepare(), activate(), bundle(1)]
