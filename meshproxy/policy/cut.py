"""Whether an allow-list may have been read while it was being written.

TOML that is cut off between `from` and a narrowing key behind it is still TOML, and grants more than was meant. Only
the last rule of a file can be cut like that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from meshproxy.policy.compile import Policy
    from meshproxy.policy.document import Rule


def looks_cut_short(old: Policy | None, new: Policy) -> Rule | None:
    """Return the last rule of `new` if it grants every method and path and `old` has no such rule for its callers.

    For HTTP listeners; a tcp rule has nothing to cut but `expires`.
    """
    if not new.rules:
        return None
    last = new.rules[-1]
    if last.methods is not None or last.paths is not None:
        return None
    known = () if old is None else old.rules
    meant = any(rule.callers == last.callers and rule.methods is None and rule.paths is None for rule in known)
    return None if meant else last
