"""What a hostile service may answer: none of it is ever passed on as a sound answer.

`NO_HEAD` has no head that can be believed: the caller is told 502. Of `NO_BODY` the head may be out before the fault is
seen: then the caller's connection is cut, so that nothing looks complete.
"""

from __future__ import annotations

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

NO_HEAD = {
    "garbage": b"\x00\x01\x02\x03",
    "other protocol": b"SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/2 version": b"HTTP/2 200 OK\r\n\r\n",
    "version 1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
    "two digits": b"HTTP/1.1 20 OK\r\n\r\n",
    "four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "no digits": b"HTTP/1.1 two OK\r\n\r\n",
    "space in front": b" HTTP/1.1 200 OK\r\n\r\n",
    "a status that is none": b"HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n",
    "NUL in a value": OK + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "CR in a value": OK + b"X: a\rSet-Cookie: b\r\nContent-Length: 0\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "folded line": OK + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "space before the colon": OK + b"Content-Length : 2\r\n\r\nok",
    "no colon": OK + b"nonsense\r\nContent-Length: 0\r\n\r\n",
    "CL and TE": OK + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": OK + b"Content-Length: 2, 2\r\n\r\nok",
    "a length below zero": OK + b"Content-Length: -1\r\n\r\n",
    "a length in hex": OK + b"Content-Length: 0x2\r\n\r\nok",
    "gzip as transfer coding": OK + b"Transfer-Encoding: gzip\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "a head of 40 KiB": OK + b"X: " + b"a" * 40_960 + b"\r\nContent-Length: 0\r\n\r\n",
    "a head without end": OK + b"X: " + b"a" * 100_000,
    "two hundred fields": OK + b"X: a\r\n" * 200 + b"Content-Length: 0\r\n\r\n",
    "interim answers without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    "a switch nobody asked for": b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\nGET /",
    "nothing at all": b"",
    "half a head": OK + b"Content-Le",
    "a TLS alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "HTTP/0.9": b"<html>hello</html>\r\n",
    "a reason of 40 KiB": b"HTTP/1.1 200 " + b"a" * 40_960 + b"\r\nContent-Length: 0\r\n\r\n",
    "a reason with NUL": b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
    "large interim answers without end": (b"HTTP/1.1 103 E\r\nLink: " + b"a" * 30_000 + b"\r\n\r\n") * 40,
    "an interim answer of 40 KiB": b"HTTP/1.1 103 E\r\nLink: " + b"a" * 40_960 + b"\r\n\r\n",
    "an interim answer that announces a body": b"HTTP/1.1 100 C\r\nContent-Length: 2\r\n\r\nab" + OK + b"\r\n",
    "204 that announces a body": b"HTTP/1.1 204 N\r\nContent-Length: 2\r\n\r\nab",
    "204 in chunks": b"HTTP/1.1 204 N\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
    "Connection takes the length away": OK + b"Connection: content-length\r\nContent-Length: 2\r\n\r\nab",
    "an empty line first": b"\r\n" + OK + b"Content-Length: 2\r\n\r\nab",
}

NO_BODY = {
    "a body cut short": OK + b"Content-Length: 10\r\n\r\nhalf",
    "no size": CHUNKED + b"zz\r\nab\r\n0\r\n\r\n",
    "a negative size": CHUNKED + b"-1\r\nab\r\n0\r\n\r\n",
    "a huge size": CHUNKED + b"fffffffffffffffff\r\nab\r\n0\r\n\r\n",
    "a size with spaces": CHUNKED + b" 2 \r\nab\r\n0\r\n\r\n",
    "more than the size": CHUNKED + b"2\r\nabcd\r\n0\r\n\r\n",
    "a chunk that ends in LF": CHUNKED + b"2\r\nab\n0\r\n\r\n",
    "a size that ends in LF": CHUNKED + b"2\nab\r\n0\r\n\r\n",
    "a CR in an extension": CHUNKED + b"2;a=\rb\r\nab\r\n0\r\n\r\n",
    "chunks cut short": CHUNKED + b"2\r\nab\r\n",
    "no empty line at the end": CHUNKED + b"2\r\nab\r\n0\r\n",
    "NUL in a trailer": CHUNKED + b"2\r\nab\r\n0\r\nX: a\x00\r\n\r\n",
    "an extension without end": CHUNKED + b"2;" + b"a" * 100_000,
    "extensions without end": CHUNKED + b"2" + b";a" * 50_000,
    "a folded trailer": CHUNKED + b"2\r\nab\r\n0\r\nX: a\r\n b\r\n\r\n",
    "trailers without end": CHUNKED + b"2\r\nab\r\n0\r\n" + b"X: a\r\n" * 20_000,
}
