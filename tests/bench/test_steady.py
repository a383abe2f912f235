from __future__ import annotations

import socket
import threading
import time

import pytest

from bench.processes import BenchError
from bench.steady import percentile, run_steadily


def answering(listener: socket.socket, reply: bytes, delay: float) -> None:
    connection, _ = listener.accept()
    with connection:
        for number in range(1000):
            if not connection.recv(1 << 16):
                return
            if number == 12:
                time.sleep(delay)
            connection.sendall(reply)


def steadily(reply: bytes, delay: float = 0.0) -> list[float]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=answering, args=(listener, reply, delay))
        server.start()
        try:
            return run_steadily(listener.getsockname()[1], rate=200, seconds=1, connections=1)
        finally:
            server.join()


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\n\r\n" + bytes(1024)


def test_one_pause_is_felt_by_all_who_were_due_meanwhile() -> None:
    latencies = steadily(GOOD, delay=0.2)

    assert len(latencies) == 200
    # A generator that waits for answers would have one slow request; 40 were due in that time, evenly.
    assert sum(each > 50_000 for each in latencies) >= 25
    assert latencies[-1] >= 190_000


def test_another_answer_than_the_right_one_is_no_latency() -> None:
    with pytest.raises(BenchError, match="503"):
        steadily(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")


def test_percentiles() -> None:
    values = [float(each) for each in range(1, 1001)]
    assert [percentile(values, share) for share in (0.5, 0.99, 0.999)] == [501, 991, 1000]
