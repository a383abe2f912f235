"""What may not be believed any more. Decisions only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ca.events import By
from ca.rows import Issued, Revocation

if TYPE_CHECKING:
    from ca.rows import Rows


def revoking(rows: Rows, leaf: Issued) -> Revocation | None:
    """The revocation that a leaf falls under, or None: by its serial, its key, or its ID and when it began."""
    if found := rows.get(Revocation, By.SERIAL, leaf.issuer, leaf.serial):
        return found
    if leaf.spki is not None and (found := rows.get(Revocation, By.SPKI, "", leaf.spki)):
        return found
    found = rows.get(Revocation, By.ID, "", leaf.id)
    if found is not None and (found.cutoff is None or leaf.not_before <= found.cutoff):
        return found
    return None
