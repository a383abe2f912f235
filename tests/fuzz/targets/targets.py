"""Request targets: what is granted is what any service behind makes of it.

The oracle is a set of ways in which real servers turn a target into a path. Whatever passes must mean, to each of them,
the very path that rules were asked about: then no rule can be passed by.
"""

from __future__ import annotations

import posixpath
import re

from meshproxy.http.head import BadMessage, TargetForm
from meshproxy.http.target import parse_target
from tests.fuzz.target import Target
from tests.http.corpus import TARGETS

_ESCAPE = re.compile(rb"%([0-9A-Fa-f]{2})")


def _unescaped(text: bytes) -> bytes:
    return _ESCAPE.sub(lambda found: bytes((int(found[1], 16),)), text)


def _resolved(path: bytes) -> bytes:
    """Dot segments and empty ones taken out, as a file system does it; a last `/` is kept."""
    plain = posixpath.normpath(path)
    plain = b"/" + plain.lstrip(b"/")
    return plain + b"/" if path.endswith(b"/") and plain != b"/" else plain


def _as_nginx(path: bytes) -> bytes:
    return _resolved(re.sub(rb"/+", b"/", _unescaped(path)))


def _as_iis(path: bytes) -> bytes:
    return _resolved(_unescaped(path).replace(b"\\", b"/"))


def _as_c(path: bytes) -> bytes:
    return _resolved(_unescaped(path).partition(b"\0")[0])


def _without_parameters(path: bytes) -> bytes:
    return b"/".join(segment.partition(b";")[0] for segment in path.split(b"/"))


def _as_servlet(path: bytes) -> bytes:
    return _resolved(_unescaped(_without_parameters(path)))


def _as_late_servlet(path: bytes) -> bytes:
    return _resolved(_without_parameters(_unescaped(path)))


def _run(data: bytes) -> None:
    method, raw = (b"OPTIONS" if data[:1] == b"O" else b"GET"), data[1:]
    try:
        target = parse_target(method, raw)
    except BadMessage as bad:
        assert bad.status == 400
        return
    path = target.path
    again = parse_target(method, target.as_origin_form())
    assert (again.path, again.query) == (path, target.query)
    if target.form is TargetForm.ASTERISK:
        assert (path, method) == (b"*", b"OPTIONS")
        return
    assert path.startswith(b"/")
    assert not set(target.as_origin_form()) & set(b"\0\r\n\t #")
    judged = _unescaped(path)
    for server in (_as_nginx, _as_iis, _as_c):
        assert server(path) == judged, server.__name__
    # To a servlet the same segments, as far as they go before their parameters.
    for server in (_as_servlet, _as_late_servlet):
        assert server(path) in (_without_parameters(judged), _unescaped(_without_parameters(path))), server.__name__
        assert all(server(path).split(b"/")[1:-1]), server.__name__


TARGET = Target(
    _run,
    (
        *(b"G" + case.raw.split(b" ")[1] for case in TARGETS if not case.raw.startswith(b"CONNECT")),
        *(b"G/", b"G/a/b?c=/../d", b"G/a;v=1/b", b"Ghttp://a:80/x?y", b"Ghttps://[::1]/x", b"O*", b"G/%61%2D%7e"),
    ),
    (
        *(
            b"/",
            b"//",
            b"/.",
            b"/..",
            b"..",
            b"%2e",
            b"%2E",
            b"%2f",
            b"%5c",
            b"\\",
            b"%00",
            b"%25",
            b"%3b",
            b";",
            b"..;",
        ),
        *(b"?", b"#", b"%", b"%u002e", b"http://", b"@", b":", b"*", b"\xc0\xae", b"%c0%ae", b"\xef\xbc\x8f", b" "),
    ),
)
