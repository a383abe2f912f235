"""One sidecar of a mesh, served in the mesh's loop: the house of a real one, without the process around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from meshproxy.runtime.build import House
from meshproxy.runtime.doors import OwnDoors
from meshproxy.runtime.drain import serve_until_drained
from meshproxy.runtime.grants import Grants, log_forewarning
from meshproxy.settings.load import Configuration
from meshproxy.settings.plan import plan_reload
from meshproxy.testing.fault import MeshError
from meshproxy.wire.address import TcpAddress

if TYPE_CHECKING:
    from meshproxy.policy.compile import Policy
    from meshproxy.policy.document import Rule
    from meshproxy.settings.schema import RuntimeSettings, Settings
    from meshproxy.telemetry.record import Recorder
    from meshproxy.wire.relay import Wall

_PATIENCE = 10.0  # seconds for an identity to be taken up


class Member:
    """A sidecar with one listener on loopback. Everything but `run` is called in the loop while that runs."""

    def __init__(self, settings: Settings, policy: Policy | None, recorder: Recorder, wall: Wall) -> None:
        """Take what is to be run; `policy` is of an inbound listener."""
        (self._listener,) = settings.listeners
        policies = {} if policy is None else {self._listener.name: policy}
        self._configuration = Configuration(settings, policies, ())
        self._recorder = recorder
        self._wall = wall
        self._house = House.furnish(settings, recorder, OwnDoors(), wall)
        self._grants = Grants(self._configuration, wall, self._grants_ended, log_forewarning(recorder.log))

    def __repr__(self) -> str:
        return f"<Member {self._listener.name}>"

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; whoever is connected then is reset."""
        async with trio.open_nursery() as life:
            await self._house.live_in(life)
            self._house.stations.bind_all(self._configuration)
            life.start_soon(self._grants.follow)
            await life.start(serve_until_drained, self._house.stations, trio.Event(), self._never)
            task_status.started()

    @property
    def address(self) -> TcpAddress:
        """Where it really listens."""
        (station,) = self._house.stations
        address = station.acceptor.post.address
        assert isinstance(address, TcpAddress)  # it was told to
        return address

    @property
    def generation(self) -> int:
        """Of the allow-list in force, from 1."""
        return self._configuration.policies[self._listener.name].generation

    def unused(self) -> list[str]:
        """Return the rules that have granted nothing, in file order."""
        (station,) = self._house.stations
        granted = self._recorder.listener(self._listener.name).granted or {}
        found = station.usage.unused(self._configuration.policies[self._listener.name], granted, self._wall())
        return [rule for rules in found.values() for rule in rules]

    def judge_by(self, policy: Policy) -> None:
        """Judge by another allow-list from now on; streams it does not grant are cut, as after any reload."""
        old = self._configuration
        self._configuration = Configuration(old.settings, {self._listener.name: policy}, ())
        plan = plan_reload(old.settings, old.settings)
        self._house.stations.apply(plan, self._configuration, grace=0.0, within=0.0)
        self._grants.replace(self._configuration)

    def clock_moved(self) -> None:
        """End what has ended by the clock."""
        self._grants.look()
        self._house.stations.recheck()

    async def take_up_identity(self) -> None:
        """Go over to the identity that was just written; raises MeshError when it does not."""
        identity = self._house.identity
        before = identity.generation
        identity.look_now()
        with trio.move_on_after(_PATIENCE):
            await identity.newer_than(before)
            return
        raise MeshError(f"the sidecar of {self._listener.name} did not take up its identity: {identity.last_error}")

    def _grants_ended(self, _ended: list[tuple[str, Rule]]) -> None:
        self._house.stations.recheck()

    def _never(self) -> RuntimeSettings:
        return self._configuration.settings.runtime
