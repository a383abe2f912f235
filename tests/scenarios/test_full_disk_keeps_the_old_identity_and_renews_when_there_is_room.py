"""The disk is full when it is time to renew: the old identity serves on, and is renewed as soon as there is room."""

from __future__ import annotations

import contextlib
import subprocess
from typing import TYPE_CHECKING

import pytest

from meshproxy.identity.material import read_material
from meshproxy.settings.schema import IdentitySettings
from tests.scenarios.authority import serve
from tests.scenarios.enrolled import configure, invite, leaves_of, put
from tests.scenarios.stage import inbound

if TYPE_CHECKING:
    from tests.scenarios.stage import Stage

LIFE = 30


@pytest.mark.long
def test_on_a_disk_that_is_really_full(stage: Stage) -> None:
    small = stage.workspace / "enrolled-api"
    small.mkdir(mode=0o755)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "none", str(small)], check=False).returncode:
        pytest.skip("nobody may mount a small file system here")
    stage.on_leaving(lambda: subprocess.run(["umount", "-l", str(small)], check=True))
    ca = serve(stage, configure=leaves_of(seconds=LIFE))
    token_file = put(stage.workspace / "api.token", invite(ca, "/api"))
    api = stage.run(configure(stage, ca.listens, "api", inbound(forward="127.0.0.1:1"), token_file=token_file))
    api.log.event("identity_enrolled")
    api.everywhere("identity_ready")
    first = read_material(IdentitySettings(small)).leaf

    filler = small / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    failed = api.log.event("renewal_failed", within=LIFE)
    assert "No space left on device" in failed.text("error")
    assert "make room" in failed.text("remedy")
    assert read_material(IdentitySettings(small)).leaf == first
    assert api.status().state == "serving"
    filler.unlink()
    api.log.event("identity_renewed", within=LIFE)
    assert read_material(IdentitySettings(small)).leaf != first
    issued = ca.issued("/api")
    assert len({each.spki for each in issued}) == len(issued)
