"""Requests and responses written for this project, with what is to become of them.

`Case.reads` are the messages that must be read, as (method or status, target, body); `refused` is the status of the
refusal that ends the stream, or None when nothing is wrong with it. A refused message may not be read to its end.
"""

from __future__ import annotations

from dataclasses import dataclass

_HOST = b"Host: a\r\n"


@dataclass(frozen=True)
class Case:
    name: str
    raw: bytes
    reads: tuple[tuple[bytes, bytes, bytes], ...] = ()
    refused: int | None = None
    asked: tuple[bytes, ...] = (b"GET",)  # for responses: the methods they answer


def _get(*fields: bytes, target: bytes = b"/x", method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> bytes:
    return b"%b %b %b\r\n%b%b\r\n" % (method, target, version, _HOST, b"".join(f + b"\r\n" for f in fields))


def _post(*fields: bytes, body: bytes = b"") -> bytes:
    return _get(*fields, method=b"POST") + body


def _chunked(body: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked", body=body)


_NEXT = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
_CHUNKED_NEXT = b"0\r\n\r\n" + _NEXT
_X = (b"GET", b"/x", b"")
_S = (b"GET", b"/smuggled", b"")


def _posted(body: bytes) -> tuple[bytes, bytes, bytes]:
    return (b"POST", b"/x", body)


ACCEPTED = (
    Case("plain", _get(), (_X,)),
    Case("pipelined", _get() + _NEXT, (_X, _S)),
    Case("one empty line between messages", _post(b"Content-Length: 1", body=b"a\r\n") + _NEXT, (_posted(b"a"), _S)),
    Case("length", _post(b"Content-Length: 3", body=b"abc"), (_posted(b"abc"),)),
    Case("length with zeros in front", _post(b"Content-Length: 0003", body=b"abc"), (_posted(b"abc"),)),
    Case("length zero", _post(b"Content-Length: 0") + _NEXT, (_posted(b""), _S)),
    Case("a request as a body", _post(b"Content-Length: %d" % len(_NEXT), body=_NEXT), (_posted(_NEXT),)),
    Case("chunked", _chunked(b"3\r\nabc\r\n0\r\n\r\n"), (_posted(b"abc"),)),
    Case("chunked, then another", _chunked(b"3\r\nabc\r\n0\r\n\r\n") + _NEXT, (_posted(b"abc"), _S)),
    Case("chunk extensions", _chunked(b'3;a=b;c="d;e" ; f\r\nabc\r\n0;z\r\n\r\n'), (_posted(b"abc"),)),
    Case("chunk size with zeros", _chunked(b"0003\r\nabc\r\n000\r\n\r\n"), (_posted(b"abc"),)),
    Case("chunk size in capitals", _chunked(b"A\r\n0123456789\r\n0\r\n\r\n"), (_posted(b"0123456789"),)),
    Case("trailers", _chunked(b"1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n"), (_posted(b"a"),)),
    Case("Chunked in capitals", _post(b"Transfer-Encoding: CHUNKED", body=b"0\r\n\r\n"), (_posted(b""),)),
    Case("HTTP/1.0 without Host", b"GET /x HTTP/1.0\r\n\r\n", (_X,)),
    Case("HTTP/1.0 ends the connection", b"GET /x HTTP/1.0\r\n\r\n" + _NEXT, (_X,)),
    Case("HTTP/1.0 keep-alive", _get(b"Connection: keep-alive", version=b"HTTP/1.0") + _NEXT, (_X, _S)),
    Case("nothing is read behind close", _get(b"Connection: close") + _NEXT, (_X,)),
    Case("close among other options", _get(b"Connection: x-a, Close") + b"garbage\x00\n", (_X,)),
    Case("expectation", _post(b"Expect: 100-Continue", b"Content-Length: 1", body=b"a"), (_posted(b"a"),)),
    Case("values with obs-text", _get(b"X: caf\xc3\xa9"), (_X,)),
    Case("whitespace around a value", _get(b"X:\t a \t"), (_X,)),
    Case("an empty value", _get(b"X:"), (_X,)),
    Case("absolute form", _get(target=b"http://a/x"), (_X,)),
    Case("absolute form, the default port spelt out", _get(target=b"http://a:80/x"), (_X,)),
    Case("absolute form without a path", _get(target=b"http://A?q"), ((b"GET", b"/?q", b""),)),
    Case("asterisk", _get(method=b"OPTIONS", target=b"*"), ((b"OPTIONS", b"*", b""),)),
    Case("an escaped letter is a letter", _get(target=b"/%61%2Db?%61"), ((b"GET", b"/a-b?%61", b""),)),
    Case("a query may say anything", _get(target=b"/x?/../%2f//a\\b"), ((b"GET", b"/x?/../%2f//a\\b", b""),)),
    Case("a method we do not know", _get(method=b"PURGE"), ((b"PURGE", b"/x", b""),)),
    Case("IPv6 Host", b"GET /x HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", (_X,)),
)

SMUGGLING = (
    Case("CL.TE", _post(b"Content-Length: 6", b"Transfer-Encoding: chunked", body=b"0\r\n\r\nG"), (), 400),
    Case("TE.CL", _post(b"Transfer-Encoding: chunked", b"Content-Length: 3", body=b"1\r\nG\r\n0\r\n\r\n"), (), 400),
    Case("CL.0 with TE", _post(b"Content-Length: 0", b"transfer-encoding: chunked", body=_CHUNKED_NEXT), (), 400),
    Case("two different lengths", _post(b"Content-Length: 1", b"Content-Length: 2", body=b"ab"), (), 400),
    Case("two equal lengths", _post(b"Content-Length: 1", b"content-length: 1", body=b"a"), (), 400),
    Case("a list of lengths", _post(b"Content-Length: 1, 1", body=b"a"), (), 400),
    Case("length with a sign", _post(b"Content-Length: +1", body=b"a"), (), 400),
    Case("length below zero", _post(b"Content-Length: -1", body=b"a"), (), 400),
    Case("length in hexadecimal", _post(b"Content-Length: 0x1", body=b"a"), (), 400),
    Case("length with an underscore", _post(b"Content-Length: 1_0", body=b"a" * 10), (), 400),
    Case("length with a space inside", _post(b"Content-Length: 1 0", body=b"a" * 10), (), 400),
    Case("length in other digits", _post(b"Content-Length: \xd9\xa1", body=b"a"), (), 400),
    Case("no length", _post(b"Content-Length:", body=b""), (), 400),
    Case("length of 2^63", _post(b"Content-Length: 9223372036854775808"), (), 400),
    Case("length of a thousand digits", _post(b"Content-Length: " + b"9" * 1000), (), 400),
    Case("space before the colon", _post(b"Transfer-Encoding : chunked", body=_CHUNKED_NEXT), (), 400),
    Case("tab before the colon", _post(b"Content-Length\t: 1", body=b"a"), (), 400),
    Case("coding xchunked", _post(b"Transfer-Encoding: xchunked", body=_CHUNKED_NEXT), (), 501),
    Case("coding chunked with a tail", _post(b"Transfer-Encoding: chunked;q=1", body=_CHUNKED_NEXT), (), 501),
    Case("coding identity", _post(b"Transfer-Encoding: identity", body=_NEXT), (), 501),
    Case("coding chunked, identity", _post(b"Transfer-Encoding: chunked, identity", body=_NEXT), (), 501),
    Case("coding gzip, chunked", _post(b"Transfer-Encoding: gzip, chunked", body=_CHUNKED_NEXT), (), 501),
    Case("chunked twice in one", _post(b"Transfer-Encoding: chunked, chunked", body=_CHUNKED_NEXT), (), 501),
    Case("coding with an empty element", _post(b"Transfer-Encoding: ,chunked", body=_CHUNKED_NEXT), (), 501),
    Case("coding in quotes", _post(b'Transfer-Encoding: "chunked"', body=_CHUNKED_NEXT), (), 501),
    Case("no coding", _post(b"Transfer-Encoding:", body=_NEXT), (), 501),
    Case(
        "two codings", _post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=_CHUNKED_NEXT), (), 400
    ),
    Case("coding with vertical tab", _post(b"Transfer-Encoding: \x0bchunked", body=_CHUNKED_NEXT), (), 400),
    Case("coding in HTTP/1.0", _get(b"Transfer-Encoding: chunked", version=b"HTTP/1.0") + _CHUNKED_NEXT, (), 400),
    Case("folded coding", _post(b"Transfer-Encoding:\r\n chunked", body=_CHUNKED_NEXT), (), 400),
    Case("folded value", _get(b"X: a\r\n b"), (), 400),
    Case("folded first field", b"GET /x HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n", (), 400),
    Case("Connection takes the length away", _post(b"Connection: Content-Length", b"Content-Length: 1"), (), 400),
    Case("Connection takes the coding away", _chunked(b"").replace(_HOST, _HOST + b"Connection: transfer-encoding\r\n"),
         (), 400),
    Case("Connection takes the Host away", _get(b"Connection: close, hOST"), (), 400),
    Case("Connection takes the credentials away", _get(b"Connection: Authorization"), (), 400),
    Case("the second request is the bad one", _get() + _post(b"Content-Length: x"), (_X,), 400),
)  # fmt: skip

CHUNKS = tuple(
    Case(name, _chunked(body), (), refused)
    for name, body, refused in (
        ("LF behind the size", b"1\na\r\n0\r\n\r\n", 400),
        ("CR behind the size", b"1\ra\r\n0\r\n\r\n", 400),
        ("LF behind the data", b"1\r\na\n0\r\n\r\n", 400),
        ("CR behind the data", b"1\r\na\r0\r\n\r\n", 400),
        ("more data than said", b"1\r\nabc\r\n0\r\n\r\n", 400),
        ("two bytes that are not CRLF", b"1\r\naXX0\r\n\r\n", 400),
        ("LF in an extension", b"1;a\nb\r\na\r\n0\r\n\r\n", 400),
        ("CR in an extension", b"1;a\rb\r\na\r\n0\r\n\r\n", 400),
        ("NUL in an extension", b"1;a\x00\r\na\r\n0\r\n\r\n", 400),
        ("LF in a quoted extension", b'1;a="\n"\r\na\r\n0\r\n\r\n', 400),
        ("an unfinished quoted extension", b'1;a="b\r\na\r\n0\r\n\r\n', 400),
        ("an extension without a name", b"1;\r\na\r\n0\r\n\r\n", 400),
        ("space behind the size", b"1 \r\na\r\n0\r\n\r\n", 400),
        ("space before the size", b" 1\r\na\r\n0\r\n\r\n", 400),
        ("an empty size", b"\r\na\r\n0\r\n\r\n", 400),
        ("size with 0x", b"0x1\r\na\r\n0\r\n\r\n", 400),
        ("size with a sign", b"+1\r\na\r\n0\r\n\r\n", 400),
        ("size below zero", b"-1\r\na\r\n0\r\n\r\n", 400),
        ("size with an underscore", b"1_0\r\n" + b"a" * 16 + b"\r\n0\r\n\r\n", 400),
        ("size with a comma", b"1,1\r\na\r\n0\r\n\r\n", 400),
        ("size that is no number", b"G\r\na\r\n0\r\n\r\n", 400),
        ("size of 2^63", b"8000000000000000\r\na", 400),
        ("size of 17 digits", b"00000000000000001\r\na\r\n0\r\n\r\n", 400),
        ("size line without end", b"1;" + b"a" * 300, 400),
        ("LF behind the last chunk", b"0\n\r\n", 400),
        ("LF for the trailer section", b"0\r\n\n", 400),
        ("a trailer that is no field", b"0\r\nGET / HTTP/1.1\r\n\r\n", 400),
        ("a trailer without colon", b"0\r\nX\r\n\r\n", 400),
        ("a folded trailer", b"0\r\nX: a\r\n b\r\n\r\n", 400),
        ("LF in the trailers", b"0\r\nX: a\nY: b\r\n\r\n", 400),
        ("NUL in the trailers", b"0\r\nX: \x00\r\n\r\n", 400),
        ("too many trailers", b"0\r\n" + b"X: a\r\n" * 101 + b"\r\n", 431),
        ("endless trailers", b"0\r\n" + b"X: " + b"a" * 40_000, 431),
    )
)

HEADS = (
    Case("LF for line ends", _get().replace(b"\r\n", b"\n"), (), 400),
    Case("LF for one line end", b"GET /x HTTP/1.1\nHost: a\r\n\r\n", (), 400),
    Case("LF ends the head", b"GET /x HTTP/1.1\r\nHost: a\r\n\n" + _NEXT, (), 400),
    Case("CR for a line end", b"GET /x HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", (), 400),
    Case("CR CR LF", b"GET /x HTTP/1.1\r\nHost: a\r\r\n\r\n", (), 400),
    Case("CR in the request line", b"GET /x\rHTTP/1.1\r\nHost: a\r\n\r\n", (), 400),
    Case("NUL in a value", _get(b"X: a\x00b"), (), 400),
    Case("NUL in a name", _get(b"X\x00: a"), (), 400),
    Case("a control in a value", _get(b"X: a\x1bb"), (), 400),
    Case("DEL in a value", _get(b"X: a\x7fb"), (), 400),
    Case("no name", _get(b": a"), (), 400),
    Case("no colon", _get(b"X"), (), 400),
    Case("a name in brackets", _get(b"X(a): b"), (), 400),
    Case("a name outside ASCII", _get(b"X\xc3\xa9: b"), (), 400),
    Case("two spaces", b"GET  /x HTTP/1.1\r\nHost: a\r\n\r\n", (), 400),
    Case("a tab for a space", b"GET\t/x HTTP/1.1\r\nHost: a\r\n\r\n", (), 400),
    Case("a space at the end of the line", b"GET /x HTTP/1.1 \r\nHost: a\r\n\r\n", (), 400),
    Case("a space at the front", b" GET /x HTTP/1.1\r\nHost: a\r\n\r\n", (), 400),
    Case("no version", b"GET /x\r\nHost: a\r\n\r\n", (), 400),
    Case("version in small letters", b"GET /x http/1.1\r\nHost: a\r\n\r\n", (), 400),
    Case("version of two digits", b"GET /x HTTP/1.10\r\nHost: a\r\n\r\n", (), 400),
    Case("version 1.2", b"GET /x HTTP/1.2\r\nHost: a\r\n\r\n", (), 505),
    Case("version 0.9", b"GET /x HTTP/0.9\r\nHost: a\r\n\r\n", (), 505),
    Case("version 2.0", b"GET /x HTTP/2.0\r\nHost: a\r\n\r\n", (), 505),
    Case("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (), 505),
    Case("a PROXY header", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", (), 400),
    Case("a TLS record", b"\x16\x03\x01\x02\x00\x01", (), 400),
    Case("a response", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", (), 400),
    Case("two empty lines first", b"\r\n\r\n" + _get(), (), 400),
    Case("a CR first", b"\rGET /x HTTP/1.1\r\nHost: a\r\n\r\n", (), 400),
    Case("no Host", b"GET /x HTTP/1.1\r\n\r\n", (), 400),
    Case("two Hosts", _get(b"Host: b"), (), 400),
    Case("two equal Hosts", _get(b"host: a"), (), 400),
    Case("an empty Host", b"GET /x HTTP/1.1\r\nHost:\r\n\r\n", (), 400),
    Case("userinfo in the Host", b"GET /x HTTP/1.1\r\nHost: u@a\r\n\r\n", (), 400),
    Case("a path in the Host", b"GET /x HTTP/1.1\r\nHost: a/b\r\n\r\n", (), 400),
    Case("two names in the Host", b"GET /x HTTP/1.1\r\nHost: a, b\r\n\r\n", (), 400),
    Case("a port that is none", b"GET /x HTTP/1.1\r\nHost: a:65536\r\n\r\n", (), 400),
    Case("an IPv6 address that is none", b"GET /x HTTP/1.1\r\nHost: [::g]\r\n\r\n", (), 400),
    Case("an expectation nobody knows", _post(b"Expect: tea", b"Content-Length: 1", body=b"a"), (), 417),
    Case("101 fields", _get(*[b"X: a"] * 100), (), 431),
    Case("a head of 33 KiB", _get(b"X: " + b"a" * 33 * 1024), (), 431),
    Case("a head without end", b"GET /x HTTP/1.1\r\nX: " + b"a" * 33 * 1024, (), 431),
    Case("a target of 8 KiB and one", _get(target=b"/" + b"a" * 8192), (), 414),
    Case("a request line without end", b"GET /" + b"a" * 33 * 1024, (), 414),
)

TARGETS = tuple(
    Case(f"target {target.decode('latin-1')}", _get(target=target, method=method), (), refused)
    for target, method, refused in (
        (b"/a/../b", b"GET", 400),
        (b"/a/.", b"GET", 400),
        (b"/a/%2e%2E/b", b"GET", 400),
        (b"/a/.%2e", b"GET", 400),
        (b"/a/..;x=1/b", b"GET", 400),
        (b"/a/..%3bx/b", b"GET", 400),
        (b"/a/%2e%2e;/b", b"GET", 400),
        (b"/;/a", b"GET", 400),
        (b"/;x=y/a", b"GET", 400),
        (b"/%3bx/a", b"GET", 400),
        (b"/a/%3B", b"GET", 400),
        (b"/a/;jsessionid=1", b"GET", 400),
        (b"//a", b"GET", 400),
        (b"/a//b", b"GET", 400),
        (b"/a%2fb", b"GET", 400),
        (b"/a%2Fb", b"GET", 400),
        (b"/a%5cb", b"GET", 400),
        (b"/a%00b", b"GET", 400),
        (b"/a\\b", b"GET", 400),
        (b"/a%", b"GET", 400),
        (b"/a%1", b"GET", 400),
        (b"/a%zz", b"GET", 400),
        (b"/a%u002e", b"GET", 400),
        (b"/a#b", b"GET", 400),
        (b"/a?b#c", b"GET", 400),
        (b"/a|b", b"GET", 400),
        (b"/caf\xc3\xa9", b"GET", 400),
        (b"/a?\xff", b"GET", 400),
        (b"a", b"GET", 400),
        (b"*", b"GET", 400),
        (b"*a", b"OPTIONS", 400),
        (b"?a", b"GET", 400),
        (b"http://b/x", b"GET", 400),
        (b"http://a:81/x", b"GET", 400),
        (b"http://u@a/x", b"GET", 400),
        (b"http:///x", b"GET", 400),
        (b"http:/x", b"GET", 400),
        (b"ftp://a/x", b"GET", 400),
        (b"http://a/x/../y", b"GET", 400),
        (b"a:443", b"CONNECT", 405),
        (b"/x", b"CONNECT", 405),
    )
)

REQUESTS = ACCEPTED + SMUGGLING + CHUNKS + HEADS + TARGETS


def _response(*fields: bytes, status: bytes = b"200 OK", version: bytes = b"HTTP/1.1") -> bytes:
    return b"%b %b\r\n%b\r\n" % (version, status, b"".join(f + b"\r\n" for f in fields))


def _said(body: bytes, status: bytes = b"200") -> tuple[bytes, bytes, bytes]:
    return (status, b"", body)


RESPONSES = (
    Case("length", _response(b"Content-Length: 2") + b"ab", (_said(b"ab"),)),
    Case("until close", _response() + b"ab", (_said(b"ab"),)),
    Case("chunked", _response(b"Transfer-Encoding: chunked") + b"2\r\nab\r\n0\r\nX: y\r\n\r\n", (_said(b"ab"),)),
    Case("HEAD", _response(b"Content-Length: 2"), (_said(b""),), asked=(b"HEAD",)),
    Case("304 with a length", _response(b"Content-Length: 2", status=b"304 Not Modified"), (_said(b"", b"304"),)),
    Case("204", _response(status=b"204 No Content"), (_said(b"", b"204"),)),
    Case("204 with length zero", _response(b"Content-Length: 0", status=b"204 No Content"), (_said(b"", b"204"),)),
    Case("no reason", _response(b"Content-Length: 0", status=b"200 "), (_said(b""),)),
    Case("no reason, no space", _response(b"Content-Length: 0", status=b"200"), (_said(b""),)),
    Case("HTTP/1.0", _response(version=b"HTTP/1.0") + b"ab", (_said(b"ab"),)),
    Case("two asked for", _response(b"Content-Length: 0") * 2, (_said(b""), _said(b"")), asked=(b"GET", b"GET")),
    Case("CL and TE", _response(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", (), 400),
    Case("two lengths", _response(b"Content-Length: 1", b"Content-Length: 2") + b"ab", (), 400),
    Case("two equal lengths", _response(b"Content-Length: 1", b"Content-Length: 1") + b"a", (), 400),
    Case("an unknown coding", _response(b"Transfer-Encoding: gzip") + b"ab", (), 501),
    Case("a coding in HTTP/1.0", _response(b"Transfer-Encoding: chunked", version=b"HTTP/1.0"), (), 400),
    Case("a bad chunk", _response(b"Transfer-Encoding: chunked") + b"2\r\nabXX0\r\n\r\n", (), 400),
    Case("204 with a body", _response(b"Content-Length: 2", status=b"204 No Content") + b"ab", (), 502),
    Case("100 with a coding", _response(b"Transfer-Encoding: chunked", status=b"100 Continue"), (), 502),
    Case("a huge head", _response(b"X: " + b"a" * 40_000), (), 431),
    Case("too many fields", _response(*[b"X: a"] * 101), (), 431),
    Case("LF in the head", b"HTTP/1.1 200 OK\nContent-Length: 0\r\n\r\n", (), 400),
    Case("CR in a value", _response(b"Set-Cookie: a\rX: b"), (), 400),
    Case("a folded field", _response(b"X: a\r\n b"), (), 400),
    Case("a status of four digits", _response(status=b"2000 OK"), (), 400),
    Case("status 99", _response(status=b"099 Low"), (), 400),
    Case("status 600", _response(status=b"600 High"), (), 502),
    Case("version 2.0", _response(version=b"HTTP/2.0"), (), 505),
    Case("an empty line first", b"\r\n" + _response(b"Content-Length: 0"), (), 400),
    Case("a request", _get(), (), 400),
    Case("no HTTP at all", b"SSH-2.0-OpenSSH_9.2\r\n", (), 400),
    Case("Connection takes the length away", _response(b"Connection: content-length", b"Content-Length: 0"), (), 400),
    Case("cut in the head", b"HTTP/1.1 200 OK\r\nContent-", (), 502),
    Case("cut in the body", _response(b"Content-Length: 3") + b"ab", (), 502),
    Case("cut in a chunk", _response(b"Transfer-Encoding: chunked") + b"3\r\nab", (), 502),
    Case("cut before the last chunk", _response(b"Transfer-Encoding: chunked") + b"2\r\nab\r\n", (), 502),
)
