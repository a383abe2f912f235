"""One server to a directory, and on no disk that machines share."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from ca import occupancy
from ca.occupancy import OccupiedError, addresses_of_server, file_system, occupant, shared_file_system, sole

if TYPE_CHECKING:
    from pathlib import Path

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /srv rw - nfs4 server:/srv rw
31 30 0:27 / /srv/local rw master:1 - xfs /dev/sdb rw
32 22 0:28 / /with\\040blank rw - cifs //host/share rw
33 22 0:29 / /twice rw - ext4 /dev/sdc rw
34 33 0:30 / /twice rw - 9p host rw
torn line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", "ext4"),
        ("/home/ca", "ext4"),
        ("/srv", "nfs4"),
        ("/srv/ca", "nfs4"),
        ("/srv2/ca", "ext4"),
        ("/srv/local/ca", "xfs"),
        ("/with blank/ca", "cifs"),
        ("/twice/ca", "9p"),
    ],
)
def test_the_deepest_and_latest_mount_holds_a_path(path: str, kind: str) -> None:
    assert file_system(MOUNTS, path) == kind


def test_only_what_machines_share_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(occupancy, "_MOUNTS", tmp_path / "mounts")
    assert shared_file_system(tmp_path) is None  # a system that does not tell
    for kind, named in (("nfs4", "nfs4"), ("fuse.sshfs", "fuse.sshfs"), ("ext4", None), ("overlay", None)):
        (tmp_path / "mounts").write_text(f"1 0 0:1 / {tmp_path} rw - {kind} x rw\n")
        assert shared_file_system(tmp_path) == named


def test_a_second_server_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    assert occupant(tmp_path) is None
    with sole(tmp_path):
        assert occupant(tmp_path) == f"process {os.getpid()}"
        with pytest.raises(OccupiedError, match=rf"another process {os.getpid()} serves the CA.*stop that one first"):
            sole(tmp_path).__enter__()
    assert occupant(tmp_path) is None
    with sole(tmp_path):
        pass


def test_the_lock_dies_with_its_holder(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from ca.occupancy import sole\n"
        "with sole(pathlib.Path(sys.argv[1])): print(flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert occupant(tmp_path) == f"process {holder.pid}"
        holder.kill()
    with sole(tmp_path):
        pass


def test_the_server_says_where_it_can_be_reached_for_as_long_as_it_serves(tmp_path: Path) -> None:
    assert addresses_of_server(tmp_path) == ()
    with sole(tmp_path) as held:
        assert addresses_of_server(tmp_path) == ()
        held.tell(["ca.internal:8440", "10.0.0.7:8440"])
        assert addresses_of_server(tmp_path) == ("ca.internal:8440", "10.0.0.7:8440")
        assert occupant(tmp_path) == f"process {os.getpid()}"
    assert addresses_of_server(tmp_path) == ()
