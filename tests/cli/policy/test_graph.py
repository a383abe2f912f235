"""The page that `meshproxy policy graph --format html` writes: whole, legible with few and many, all its own."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshproxy.cli.main import cli
from meshproxy.cli.policy.page import Arrow, page


def drawn(arrows: list[Arrow], services: list[str]) -> ET.Element:
    """The drawing, which is XML."""
    text = page(arrows, services)
    HTMLParser().feed(text)
    assert "<script" not in text
    assert not re.search(r"(src|href|@import|url\()[^#]{0,3}(http|//)", text)
    return ET.fromstring(text[text.index("<svg") : text.index("</svg>") + len("</svg>")])


def texts(svg: ET.Element) -> list[str]:
    return [each.text or "" for each in svg.iter("text")]


def test_each_name_and_each_arrow_is_there_once() -> None:
    arrows = [
        Arrow("/web", "/orders", ("GET on /orders/**", "POST on /orders")),
        Arrow("/orders", "/ledger", ("anything",), anything=True),
        Arrow("/ledger", "/orders", ("GET on /x",)),
        Arrow("/ledger", "/ledger", ("GET on /self",)),
        Arrow("spiffe://other.test/x", "/ledger", ("GET on /y",)),
        Arrow("/batch/*", "/ledger", ("GET on /z",)),
    ]
    svg = drawn(arrows, ["/orders", "/ledger", "/web", "/vault"])
    names = ["/orders", "/ledger", "/web", "/vault", "spiffe://other.test/x", "/batch/*"]
    assert [each for each in texts(svg) if each in names] == names
    titles = [each.text for each in svg.iter("title")]
    assert "/web → /orders: GET on /orders/**; POST on /orders" in titles
    assert "/ledger\nmay call itself: GET on /self" in titles
    assert sum(each.get("class") == "wide" for each in svg.iter("path")) == 5
    assert {"GET on /orders/** +1", "anything", "GET on /x", "GET on /y", "GET on /z", "↻"} <= set(texts(svg))
    turned = [each for each in svg.iter("path") if each.get("marker-start")]
    assert len(turned) == 1  # of the two between orders and ledger


def test_what_stands_in_lists_cannot_become_a_part_of_the_page() -> None:
    evil = "GET on /<b>&\"'"
    text = page([Arrow("/web", "/api", (evil,))], ["/api"])
    assert "<b>&" not in text
    assert evil in [each.text for each in drawn([Arrow("/web", "/api", (evil,))], ["/api"]).iter("text")]


def test_no_box_lies_upon_another_and_all_within_the_drawing() -> None:
    names = [f"/team-{number % 6}/service-{number}" for number in range(60)]
    arrows = [Arrow(names[at // 2], names[at], ("GET on /x",)) for at in range(1, 60)]
    arrows += [Arrow(names[at], names[at * 7 % 60], ("anything",), anything=True) for at in range(60)]
    svg = drawn(arrows, names)
    _, _, width, height = (float(each) for each in (svg.get("viewBox") or "").split())
    boxes = [tuple(float(each.get(key) or 0) for key in ("x", "y", "width", "height")) for each in svg.iter("rect")]
    assert len(boxes) == 60
    for x, y, wide, high in boxes:
        assert 0 <= x <= x + wide <= width
        assert 0 <= y <= y + high <= height
        assert sum(a < x + wide and x < a + c and b < y + high and y < b + d for a, b, c, d in boxes) == 1


def test_many_are_drawn_by_the_first_segments_of_their_names_and_all_are_in_words() -> None:
    names = [f"/team-{number % 9}/service-{number}" for number in range(300)]
    arrows = [Arrow(names[at // 2], names[at], ("GET on /x",)) for at in range(1, 300)]
    svg = drawn(arrows, names)
    assert {f"/team-{number}/…" for number in range(9)} <= set(texts(svg))
    assert page(arrows, names).count("<tr><td>") == 299


def test_too_many_to_be_drawn_are_told_in_words() -> None:
    arrows = [Arrow(f"/c{number}", f"/s{number}", ("GET on /x",)) for number in range(500)]
    text = page(arrows, [each.service for each in arrows])
    assert "too many to be drawn" in text
    assert "<svg" not in text
    assert text.count("<tr><td>") == 500


def test_of_services_that_nobody_may_call_it_is_said() -> None:
    assert "Nobody may call <code>/vault</code>." in page([], ["/vault"])


@pytest.mark.parametrize("form", ["mermaid", "dot", "html"])
def test_a_full_name_of_the_own_trust_domain_is_the_short_one(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("p").mkdir()
    Path("p/api.allow.toml").write_text('[[allow]]\nfrom = ["spiffe://mesh.test/web", "/web"]\n')
    Path("p/lonely.allow.toml").write_text("allow = []")
    said = CliRunner().invoke(cli, ["policy", "graph", "p", "--format", form, "--trust-domain", "mesh.test"])
    assert said.exit_code == 0
    assert "spiffe" not in said.stdout
    assert "lonely" in said.stdout
    apart = CliRunner().invoke(cli, ["policy", "graph", "p", "--format", form, "--trust-domain", "else.test"])
    assert "spiffe" in apart.stdout
