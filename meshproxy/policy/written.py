"""Rules as text, ready to be pasted into an allow-list: what is read back is what was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from meshproxy.policy.document import Rule

_WIDE: Final = 100  # characters of a line; a longer list goes below one another
_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def rule_text(rule: Rule) -> str:
    """Return a rule as a TOML table, its lines ended; keys it does not have are left out, its default name too."""
    lines = ["[[allow]]"]
    if rule.name != f"rule-{rule.ordinal}":
        lines.append(f"name = {quoted(rule.name)}")
    lines.append(_list("from", [pattern.text for pattern in rule.callers]))
    if rule.methods is not None:
        lines.append(_list("methods", rule.methods))
    if rule.paths is not None:
        lines.append(_list("paths", [pattern.text for pattern in rule.paths]))
    lines += [f"{key} = {quoted(text)}" for key, text in (("reason", rule.reason), ("owner", rule.owner)) if text]
    if rule.expires is not None:
        lines.append(f"expires = {_instant(rule.expires)}")
    if rule.recorded is not None:
        lines.append(f"audit = {quoted('all' if rule.recorded else 'off')}")
    return "".join(f"{line}\n" for line in lines)


def quoted(text: str) -> str:
    """Return a text as a TOML basic string (TOML 1.0, "String")."""
    return '"' + "".join(_ESCAPES.get(char) or _character(char) for char in text) + '"'


def _character(char: str) -> str:
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def _list(key: str, texts: Iterable[str]) -> str:
    items = [quoted(text) for text in texts]
    line = f"{key} = [{', '.join(items)}]"
    if len(line) <= _WIDE:
        return line
    return "\n".join((f"{key} = [", *(f"    {item}," for item in items), "]"))


def _instant(moment: datetime) -> str:
    """A date where it is the beginning of one, as people write it."""
    if (moment.hour, moment.minute, moment.second, moment.microsecond) == (0, 0, 0, 0):
        return f"{moment:%Y-%m-%d}".rjust(10, "0")
    return moment.isoformat().replace("+00:00", "Z")
