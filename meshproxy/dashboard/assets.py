"""The dashboard's own files, served as they lie in the package: no build step, no other origin, nothing inline."""

from __future__ import annotations

from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

from meshproxy.admin.answers import Asked, Inquiry, Page

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = "/dashboard"

_STATIC: Final = Path(__file__).parent / "static"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",  # RFC 9239: the type of modules too
    ".svg": "image/svg+xml",
}

# What the page may do is next to nothing: load from here, and ask here (Content Security Policy Level 3). Trusted Types
# make the browser refuse markup made of strings, so that no name a peer has chosen can ever become an element.
_POLICY: Final = (
    b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    b"require-trusted-types-for 'script'"
)


def views() -> Mapping[str, Inquiry]:
    """Return a view for each file, and for the page itself at /dashboard.

    Which files there are is looked up once, here; each is read when it is first asked for, for most sidecars are never
    looked at.
    """
    files = sorted(path for path in _STATIC.rglob("*") if path.suffix in _TYPES)
    return {_place(path): Inquiry(_Asset(path).answer) for path in files}


def _place(path: Path) -> str:
    name = path.relative_to(_STATIC).as_posix()
    return ROOT if name == "index.html" else f"{ROOT}/{name}"


class _Asset:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __repr__(self) -> str:
        return f"<_Asset {self._path.name}>"

    @cached_property
    def _whole(self) -> Page:
        content = self._path.read_bytes()
        headers = (
            (b"cache-control", b"no-cache"),  # kept, but asked about each time: an update shows at once
            (b"etag", b'"%b"' % blake2b(content, digest_size=12).hexdigest().encode()),
            (b"content-security-policy", _POLICY),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-opener-policy", b"same-origin"),
            (b"cross-origin-resource-policy", b"same-origin"),
        )
        return Page(200, _TYPES[self._path.suffix], content, headers)

    def answer(self, asked: Asked) -> Page:
        """Return the file, or that it has not changed (RFC 9110 section 13.1.2)."""
        whole = self._whole
        known = [each.strip().removeprefix(b"W/") for each in asked.fields.get(b"if-none-match", b"").split(b",")]
        if dict(whole.more_headers)[b"etag"] in known or b"*" in known:
            return Page(304, whole.content_type, b"", whole.more_headers)
        return whole
