"""Whether an identity may be used for a handshake now, and if not, why and what to do: decided by what is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshproxy.identity.expiry import Validity
from meshproxy.identity.material import remedy_for
from meshproxy.settings.schema import StaleDenyList
from meshproxy.units import format_duration

if TYPE_CHECKING:
    from datetime import datetime

    from ca.deny_list import Denial
    from meshproxy.identity.material import Material
    from meshproxy.identity.trust import Trusted
    from meshproxy.settings.schema import IdentitySettings


class NotReady(Exception):
    """There is no identity that can be used now; the text says why, `remedy` what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


def out_of_time(material: Material, settings: IdentitySettings, now: datetime) -> NotReady | None:
    """What is wrong with the time of our own chain."""
    validity = material.validity(now)
    if validity is Validity.VALID:
        return None
    leaf, until = material.leaf, material.not_after
    if validity is Validity.EXPIRED:
        return NotReady(
            f"our certificate for {leaf.id} expired at {until:%Y-%m-%dT%H:%M:%SZ}",
            remedy_for(settings, leaf.id.path),
        )
    return NotReady(
        f"our certificate for {leaf.id} is valid only from {leaf.not_before:%Y-%m-%dT%H:%M:%SZ}",
        f"check this machine's clock; or {remedy_for(settings, leaf.id.path)}",
    )


def denied(material: Material, denial: Denial, settings: IdentitySettings) -> NotReady:
    """What follows when our own certificate is on the deny-list: nobody would believe us, or ought to."""
    leaf = material.leaf
    token = f"{leaf.id.path.rpartition('/')[2]}.token"
    return NotReady(
        f"our certificate {leaf.serial:x} for {leaf.id} was revoked: {denial.detail}",
        f"if this service is to go on, enrol it again: meshproxy ca token create {leaf.id.path} --dir CA_DIR "
        f"--out {token}, then meshproxy enroll --token-file {token} --out {settings.dir}",
    )


def staleness(trusted: Trusted, settings: IdentitySettings, now: datetime) -> NotReady | None:
    """What follows under `stale_deny_list = "deny"` when nobody can say who was revoked lately."""
    if settings.stale_deny_list is not StaleDenyList.DENY:
        return None
    place = settings.dir / "trust.json"
    if trusted.deny_list is None:
        return NotReady(
            f'there is no deny-list in {place}, and stale_deny_list = "deny" believes nobody without one',
            'let this sidecar poll its CA: ca = "host:port" under [identity]; or write stale_deny_list = "allow"',
        )
    late = trusted.stale_for(now)
    if late is None:
        return None
    said = trusted.deny_list.content
    return NotReady(
        f"deny-list number {said.sequence} in {place} was good until {said.next_update:%Y-%m-%dT%H:%M:%SZ}, "
        f'{format_duration(late.total_seconds())} ago, and stale_deny_list = "deny"',
        "see whether the CA can be reached, and its deny-list is published: meshproxy ca doctor",
    )
