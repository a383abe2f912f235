"""The dashboard's own files, served as they lie in the package: no build step, no other origin, nothing inline."""

from __future__ import annotations

from hashlib import blake2b
from importlib import resources
from typing import TYPE_CHECKING, Final

from meshproxy.admin.answers import Asked, Inquiry, Page

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.resources.abc import Traversable

ROOT: Final = "/dashboard"

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
    """Return a view for each file, and for the page itself at /dashboard; reads all of them, once.

    They are some dozen files of 200 KB in all, which never change while a process runs.
    """
    files = dict(_files(resources.files(__package__) / "static", ""))
    index = files.pop("/index.html")
    return {ROOT: index, **{ROOT + path: view for path, view in sorted(files.items())}}


def _files(directory: Traversable, path: str) -> Iterator[tuple[str, Inquiry]]:
    for entry in directory.iterdir():
        name = f"{path}/{entry.name}"
        if entry.is_dir():
            yield from _files(entry, name)
        elif (content_type := _TYPES.get(name[name.rfind(".") :])) is not None:
            yield name, _view(entry.read_bytes(), content_type)


def _view(content: bytes, content_type: str) -> Inquiry:
    tag = b'"%b"' % blake2b(content, digest_size=12).hexdigest().encode()
    headers = (
        (b"cache-control", b"no-cache"),  # kept, but asked about each time: an update shows at once
        (b"etag", tag),
        (b"content-security-policy", _POLICY),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
    )
    whole = Page(200, content_type, content, headers)
    unchanged = Page(304, content_type, b"", headers)

    def answer(asked: Asked) -> Page:
        known = [each.strip().removeprefix(b"W/") for each in asked.fields.get(b"if-none-match", b"").split(b",")]
        return unchanged if tag in known or b"*" in known else whole  # RFC 9110 section 13.1.2

    return Inquiry(answer)
