"""However much passes through, both ways at once, it arrives as it was sent and the sidecars stay small."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, Visit, chunks, crc_of_pattern, dial, full_duplex, say_all
from tests.scenarios.stage import Scales, inbound, outbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

MIB = 1024 * 1024
GROWTH = 8 * MIB  # buffers of one connection and what the allocator keeps; a leak of 1 % would be more


@pytest.mark.parametrize("size", [64 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.long)])
def test_bulk_moves_byte_exact_with_flat_memory(stage: Stage, size: int) -> None:
    service = stage.keep(Service(full_duplex(size)))
    api = stage.sidecar("api", inbound(forward=service.address))
    web = stage.sidecar("web", outbound(endpoints=[api.address("api")]))
    scales = Scales(api, web)

    heard = Visit()
    with dial(web.address("to-api")) as caller:
        talking = threading.Thread(target=say_all, args=(caller, size))
        talking.start()
        for _ in chunks(caller, heard):
            pass
        talking.join()
    said = service.visit()
    scales.put_away()

    expected = (size, crc_of_pattern(size), Ended.EOF)
    assert (heard.count, heard.crc, heard.ended) == expected
    assert (said.count, said.crc, said.ended) == expected
    for sidecar in (api, web):
        line = sidecar.log.connection(end="clean", bytes_in=size)
        assert line.bytes_out == size
    assert scales.growth < GROWTH, f"grew by {scales.growth / MIB:.1f} MiB"
