"""A case is judged as a sidecar judges the same request, from its bytes on."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from meshproxy.http.head import BadMessage, HeadLimits
from meshproxy.http.parse import parse_request_head
from meshproxy.policy.cases import judged_request

methods = st.sampled_from(["GET", "get", "CONNECT", "OPTIONS", "M-SEARCH"]) | st.text('GET /!"\x00\x7fé', max_size=4)
paths = st.text("/.%2eEfF5c;?*#\\ab\x00\x7fé ~", max_size=9).map(lambda text: f"/{text}") | st.sampled_from(
    ["*", "", "http://h/a", "http://h", "http://u@h/", "a", "//", "/%zz"]
)


@given(methods, paths)
@example("GET", "/a?b#c")
@example("OPTIONS", "*")
def test_it_refuses_what_a_sidecar_refuses_and_reads_the_rest_alike(method: str, path: str) -> None:
    head = f"{method} {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    try:
        said = parse_request_head(head, HeadLimits())
    except BadMessage:
        running = None
    else:
        running = said.method.decode(), said.target.path.decode()
    try:
        asked = judged_request(method, path)
    except BadMessage:
        assert running is None
    else:
        assert asked == running
