"""Listeners are added, removed and moved while the sidecar runs; who is connected to another one notices nothing."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.scenarios.actors import Ended, Service, dial, echo, exchange, read_to_end
from tests.scenarios.changes import reload, reload_changes, unix_admin
from tests.scenarios.http_actors import CLOSES, Caller, Origin
from tests.scenarios.programs import free_port
from tests.scenarios.stage import inbound, outbound, poll

if TYPE_CHECKING:
    from pathlib import Path

    from tests.scenarios.stage import Sidecar, Stage


def listening(sidecar: Sidecar) -> dict[str, str]:
    """Where each listener is now."""
    return {each.name: each.listen for each in sidecar.status().listeners}


def is_closed(address: str) -> bool:
    try:
        dial(address).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


def at(table: str, address: str) -> str:
    return table.replace("127.0.0.1:0", address)


class Doors:
    """web's sidecar, whose plain listeners change, in front of api's, which stays."""

    def __init__(self, stage: Stage, *, runtime: str = "", protocol: str = "tcp") -> None:
        self._stage = stage
        # They move to ports that nobody knew of at the start, for which a sandbox would want a restart.
        self._runtime = (runtime or "[runtime]\n") + 'sandbox = "off"\n'
        service = stage.keep(Service(echo) if protocol == "tcp" else Origin())
        self.api = stage.sidecar("api", inbound(forward=service.address, protocol=protocol))
        self.service = service
        self._protocol = protocol
        self.web = stage.run(self.write(self.door("first")))

    def door(self, name: str) -> str:
        return outbound(name, endpoints=[self.api.address("api")], protocol=self._protocol)

    def write(self, tables: str) -> Path:
        return self._stage.configure("web", unix_admin("web") + self._runtime + tables)

    def change(self, tables: str) -> dict[str, str]:
        """Take up other listeners; returns where they are."""
        self.write(tables)
        reload_changes(self.web)
        return listening(self.web)


def test_one_is_added_and_removed_while_another_is_in_use(stage: Stage) -> None:
    doors = Doors(stage)
    with dial(doors.web.address("first")) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"

        where = doors.change(doors.door("first") + doors.door("second"))
        assert where["first"] == doors.web.address("first")
        assert exchange(where["second"], b"hello") == b"hello"
        assert doors.web.log.event("reloaded")["changes"] == {"outbound first": "keep", "outbound second": "add"}

        assert set(doors.change(doors.door("first"))) == {"first"}
        poll(lambda: is_closed(where["second"]), "the second is closed")

        caller.sendall(b"still here")
        assert caller.recv(10) == b"still here"
    assert exchange(where["first"], b"hello") == b"hello"
    doors.web.log.connection(listener="first", bytes_in=15)
    assert doors.web.metric("meshproxy_connections_total", listener="first", end="clean") == 2


def test_one_is_moved_and_who_came_in_by_the_old_door_stays(stage: Stage) -> None:
    doors = Doors(stage)
    before, after = doors.web.address("first"), f"127.0.0.1:{free_port()}"
    with dial(before) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"

        assert doors.change(at(doors.door("first"), after)) == {"first": after}
        poll(lambda: is_closed(before), "the old door is closed")
        assert exchange(after, b"hello") == b"hello"

        caller.sendall(b"still here")
        assert caller.recv(10) == b"still here"


@pytest.mark.long
def test_what_is_left_at_a_removed_one_is_cut_at_drain_timeout(stage: Stage) -> None:
    doors = Doors(stage, runtime='[runtime]\ndrain_timeout = "500ms"\n')
    doors.change(doors.door("first") + doors.door("second"))
    with dial(listening(doors.web)["second"]) as leaving, dial(doors.web.address("first")) as staying:
        for caller in (leaving, staying):
            caller.sendall(b"hello")
            assert caller.recv(5) == b"hello"
        doors.change(doors.door("first"))
        assert read_to_end(leaving) == (b"", Ended.RESET)
        assert doors.web.log.connection(end="drained").listener == "second"
        staying.sendall(b"still here")
        assert staying.recv(10) == b"still here"


def test_a_moved_http_listener_tells_its_callers_to_come_back(stage: Stage) -> None:
    doors = Doors(stage, protocol="http")
    after = f"127.0.0.1:{free_port()}"
    with Caller(dial(doors.web.address("first"))) as caller:
        assert caller.ask("GET", "/orders").values("connection") == []
        doors.change(at(doors.door("first"), after))
        answer = caller.ask("GET", "/orders")
        assert (answer.status, answer.value("connection")) == (200, "close")
    with Caller(dial(after)) as caller:
        assert caller.ask("GET", "/orders", CLOSES).status == 200


def test_the_resting_connections_of_an_unchanged_one_are_used_again(stage: Stage) -> None:
    doors = Doors(stage, protocol="http")
    with Caller(dial(doors.web.address("first"))) as caller:
        assert caller.ask("GET", "/orders").status == 200
        doors.change(doors.door("first") + doors.door("second"))
        doors.change(doors.door("first"))
        assert caller.ask("GET", "/orders").status == 200
    accepted = doors.api.status().listeners[0]
    assert (accepted.open, accepted.answered) == (1, {"2xx": 2})


def test_a_renamed_listener_keeps_its_door(stage: Stage) -> None:
    doors = Doors(stage)
    address = f"127.0.0.1:{free_port()}"
    doors.change(at(doors.door("first"), address))
    with dial(address) as caller:
        caller.sendall(b"hello")
        assert caller.recv(5) == b"hello"
        assert doors.change(at(doors.door("renamed"), address)) == {"renamed": address}
        assert exchange(address, b"hello") == b"hello"
        caller.sendall(b"still here")
        assert caller.recv(10) == b"still here"
    assert doors.web.log.connection(listener="renamed").bytes_in == 5


def test_two_listeners_may_change_places(stage: Stage) -> None:
    doors = Doors(stage)
    here, there = f"unix:{stage.workspace}/here", f"unix:{stage.workspace}/there"
    doors.change(at(doors.door("first"), here) + at(doors.door("second"), there))
    assert doors.change(at(doors.door("first"), there) + at(doors.door("second"), here)) == {
        "first": there,
        "second": here,
    }
    assert exchange(here, b"hello") == b"hello"
    assert doors.web.log.connection(bytes_in=5).listener == "second"
    assert exchange(there, b"hello") == b"hello"


def test_an_address_in_use_is_told_and_changes_nothing(stage: Stage) -> None:
    doors = Doors(stage)
    with closing(socket.create_server(("127.0.0.1", 0))) as somebody:
        taken = "{}:{}".format(*somebody.getsockname())
        doors.write(at(doors.door("first"), f"127.0.0.1:{free_port()}") + at(doors.door("second"), taken))
        answer = reload(doors.web)

    assert (answer.status, answer.json["result"]) == (422, "failed")
    assert f"cannot listen on {taken}: the address is in use" in answer.json.text("error")
    failed = doors.web.log.event("reload_failed")
    assert failed["kept_generation"] == 1
    assert listening(doors.web) == {"first": doors.web.address("first")}
    assert exchange(doors.web.address("first"), b"hello") == b"hello"

    doors.change(doors.door("first") + at(doors.door("second"), taken))
    assert exchange(taken, b"hello") == b"hello"
