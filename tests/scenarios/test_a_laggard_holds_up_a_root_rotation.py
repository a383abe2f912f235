"""A root is not activated while somebody would be cut off by it; who insists is told whom he leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ca.svid import read_chain
from tests.scenarios.authority import serve
from tests.scenarios.stage import meshproxy, poll

if TYPE_CHECKING:
    from tests.scenarios.authority import CaServer, Client
    from tests.scenarios.stage import Stage


def rotate(ca: CaServer, *words: str) -> tuple[int, str]:
    done = meshproxy("ca", "rotate", *words, "--what", "root", "--dir", ca.directory)
    return done.returncode, done.stdout + done.stderr


def enrolled(ca: CaServer, path: str) -> Client:
    client = ca.client()
    assert client.enrol(ca.token(path)).status == 200
    return client


def roots_of(client: Client) -> int:
    """How many roots the CA tells this client to believe."""
    return len(client.trust().json["bundle"].split('"x5c"')) - 1


@pytest.mark.long
def test_activation_waits_for_the_last_and_names_him(stage: Stage) -> None:
    ca = serve(stage)
    web, slow = enrolled(ca, "/web"), enrolled(ca, "/slow")
    ca.run("rotate", "prepare", "--what", "root")
    poll(lambda: roots_of(web) == roots_of(slow) == 2, "the server tells of the new root")
    number = ca.status_json["bundle_sequence"]
    assert web.trust(loaded=number).status == 200

    code, said = rotate(ca, "activate")
    assert code != 0
    assert "spiffe://mesh.test/slow" in said
    assert "spiffe://mesh.test/web" not in said
    told = ca.run("rotate", "status")
    assert "1 would be cut off" in told
    assert "spiffe://mesh.test/slow" in told

    assert slow.trust(loaded=number).status == 200
    assert "can be activated" in ca.run("rotate", "status")
    assert rotate(ca, "activate")[0] == 0
    issuer = slow.leaf_issuer
    assert slow.renew().status == 200
    assert slow.leaf_issuer != issuer


@pytest.mark.long
def test_who_forces_it_is_told_whom_he_leaves_behind_and_they_find_their_way_back(stage: Stage) -> None:
    ca = serve(stage)
    slow = enrolled(ca, "/slow")
    ca.run("rotate", "prepare", "--what", "root")
    code, said = rotate(ca, "activate", "--force")
    assert (code, "1 left behind" in said) == (0, True)

    old = read_chain(slow.roots.encode())[0].subject
    slow.roots = (ca.directory / "trust/bundle.pem").read_text()
    # What he holds is good still, and he is told of the new root by the CA he knows.
    poll(lambda: roots_of(slow) == 2, "the server tells of the new root")
    assert slow.trust(loaded=ca.status_json["bundle_sequence"]).status == 200

    def is_below_the_new_root() -> bool:
        return slow.renew().status == 200 and read_chain(slow.chain.encode())[1].issuer != old

    poll(is_below_the_new_root, "the server signs below the new root")
