from __future__ import annotations

import pytest

from bench.load import WrkReport, read_wrk
from bench.processes import BenchError

SAID = """Running 2s test @ http://127.0.0.1:20333/1k
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     3.70ms    2.11ms  30.73ms   90.04%
    Req/Sec     9.33k     0.99k   13.38k    80.00%
  Latency Distribution
     50%  987.00us
     75%    2.80ms
     90%    4.25ms
     99%    1.02s
  18519 requests in 2.00s, 23.38MB read
Requests/sec:   9253.40
Transfer/sec:     11.71MB
"""


def test_figures_are_read_in_microseconds() -> None:
    assert read_wrk(SAID) == WrkReport(requests=18519, per_second=9253.4, p50=987.0, p90=4250.0, p99=1_020_000.0)


@pytest.mark.parametrize(
    "wrong", ["  Non-2xx or 3xx responses: 2345", "  Socket errors: connect 0, read 12, write 0, timeout 0"]
)
def test_an_answer_that_is_not_good_makes_no_figure(wrong: str) -> None:
    with pytest.raises(BenchError, match=wrong.strip()):
        read_wrk(SAID.replace("Requests/sec", f"{wrong}\nRequests/sec"))


@pytest.mark.parametrize(
    "said",
    ["", "unable to connect to 127.0.0.1:20333 Connection refused\n", SAID.replace("18519 requests", "0 requests")],
)
def test_nothing_counted_is_no_figure(said: str) -> None:
    with pytest.raises(BenchError, match="wrk counted nothing"):
        read_wrk(said)
