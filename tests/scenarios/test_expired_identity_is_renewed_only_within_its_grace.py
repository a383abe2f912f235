"""What has expired is renewed if ca.toml says so, proved by a signature of its old key; else a new token is needed."""

from __future__ import annotations

import signal
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from meshproxy.identity.material import read_material
from meshproxy.settings.schema import IdentitySettings
from tests.scenarios.authority import serve
from tests.scenarios.enrolled import invite, leaves_of, put
from tests.scenarios.stage import meshproxy

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage


@pytest.mark.long
def test_grace(stage: Stage) -> None:
    ca = serve(stage, configure=leaves_of(seconds=10))
    out = stage.workspace / "late"
    done = meshproxy("enroll", "--token-file", put(stage.workspace / "t", invite(ca, "/late")), "--out", out)
    assert done.returncode == 0, done.stderr
    first = read_material(IdentitySettings(out)).leaf
    time.sleep(max((first.not_after - datetime.now(UTC)).total_seconds(), 0) + 1.5)  # its end is what is waited for

    refused = meshproxy("renew", "--dir", out)
    assert refused.returncode == 1
    assert "expired at" in refused.stderr
    assert "meshproxy ca token create /late" in refused.stderr
    assert read_material(IdentitySettings(out)).leaf == first

    with (ca.directory / "ca.toml").open("a") as file:
        file.write('\n[[issue]]\npaths = ["/late"]\nrenew_grace_seconds = 3600\n')
    ca.signal(signal.SIGHUP)
    ca.log.event("reloaded")
    renewed = meshproxy("renew", "--dir", out)
    assert renewed.returncode == 0, renewed.stderr
    assert [each.generation for each in ca.issued("/late")] == [1, 2]
