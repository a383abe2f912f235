"""What a CA publishes, brought to identity directories as whoever polls it does: files are all a sidecar needs.

revoke(stage.mesh, "--id", "/web")                    # the CA's own command, which publishes at once
bring(stage.mesh, api_identity.directory)             # trust.json, as the CA's server would have answered
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from ca import premises
from ca.identity_directory import write_trust
from ca.messages import Trust
from tests.scenarios.stage import meshproxy, poll

if TYPE_CHECKING:
    from pathlib import Path

    from tests.factory import MeshCa
    from tests.scenarios.stage import Sidecar


def run_ca(mesh: MeshCa, *arguments: str) -> str:
    """Run a command of the CA on its directory."""
    done = meshproxy("ca", *arguments, "--dir", mesh.directory)
    assert done.returncode == 0, done.stderr
    return done.stdout


def revoke(mesh: MeshCa, *whom: str) -> None:
    run_ca(mesh, "revoke", *whom)


def published(mesh: MeshCa, name: str) -> str:
    return (mesh.directory / premises.TRUST / name).read_text()


def bring(mesh: MeshCa, *directories: Path, federated: tuple[MeshCa, ...] = ()) -> None:
    """Lay what the CA publishes now into these identity directories."""
    if not (mesh.directory / premises.TRUST / premises.DENY_LIST).exists():
        run_ca(mesh, "publish")
    said = Trust(
        bundle=published(mesh, premises.BUNDLE_JSON),
        deny_list=published(mesh, premises.DENY_LIST),
        federated={each.trust_domain.name: published(each, premises.BUNDLE_JSON) for each in federated},
    )
    for directory in directories:
        write_trust(directory, msgspec.json.encode(said))


def until_listed(sidecar: Sidecar, entries: int) -> None:
    """Wait until all its workers follow a deny-list of so many entries."""
    poll(lambda: sidecar.metric("meshproxy_deny_list_entries") == entries, f"{entries} entries in force")
