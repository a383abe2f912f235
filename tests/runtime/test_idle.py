"""Edges that may be used, as the allow-lists and the settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshproxy.runtime.idle import idle_edges
from tests.runtime.conftest import MOMENT, House, inbound, outbound

if TYPE_CHECKING:
    from pathlib import Path

OWN = "spiffe://mesh.test/api"


def edges(house: House, allow: str, own: str = OWN) -> list[tuple[str, str, str, str, str]]:
    house.write(allow, file="web.allow.toml")
    house.write(inbound("api", "127.0.0.1:0"), outbound("to-ledger", "127.0.0.1:0"))
    loaded = house.load()
    found = idle_edges(loaded.settings, loaded.policies, own, MOMENT.timestamp())
    return [(edge.reporter, edge.source, edge.target, edge.listener, rule) for edge, rule in found]


async def test_who_may_call_and_whom_one_may_call(house: House) -> None:
    allow = """
[[allow]]
name = "some"
from = ["/web", "/batch/*", "spiffe://mesh.test/shop", "spiffe://partner.test/web"]

[[allow]]
name = "over"
from = "/old"
expires = 2026-01-01
"""
    assert edges(house, allow) == [
        ("source", "/api", "/ledger", "to-ledger", ""),
        ("destination", "/web", "/api", "api", "some"),
        ("destination", "/batch/*", "/api", "api", "some"),
        ("destination", "/shop", "/api", "api", "some"),
        ("destination", "spiffe://partner.test/web", "/api", "api", "some"),
    ]


async def test_without_an_identity_it_is_local(house: House) -> None:
    assert edges(house, "allow = []", own="") == [("source", "local", "/ledger", "to-ledger", "")]


async def test_ten_thousand_rules_are_a_thousand_edges(house: House, tmp_path: Path) -> None:
    allow = "\n".join(f'[[allow]]\nfrom = "/caller-{number}"' for number in range(2000))
    assert len(edges(house, allow)) == 1000
