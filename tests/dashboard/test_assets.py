"""The page's files are served as they are, with their types, and under a policy that lets nothing else in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from meshproxy.admin.answers import Asked, Page
from meshproxy.admin.questions import Query
from meshproxy.dashboard import assets

if TYPE_CHECKING:
    from pathlib import Path

FILES = sorted(path for path in assets._STATIC.rglob("*") if path.is_file())


def got(path: str, **fields: str) -> Page:
    asked = Asked(Query(), {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()})
    answer = assets.views()[path].answer(asked)
    assert isinstance(answer, Page)
    return answer


def test_page_is_at_its_root_with_a_policy_that_forbids_all_but_itself() -> None:
    page = got("/dashboard")
    headers = dict(page.more_headers)
    assert (page.status, page.content_type) == (200, "text/html; charset=utf-8")
    policy = headers[b"content-security-policy"].decode()
    assert policy.startswith("default-src 'self';")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/dashboard/main.js", "text/javascript; charset=utf-8"),
        ("/dashboard/measure/layout.js", "text/javascript; charset=utf-8"),
        ("/dashboard/style/base.css", "text/css; charset=utf-8"),
        ("/dashboard/icon.svg", "image/svg+xml"),
    ],
)
def test_file_has_its_type(path: str, content_type: str) -> None:
    assert got(path).content_type == content_type


def test_file_that_is_known_is_not_sent_again() -> None:
    tag = dict(got("/dashboard").more_headers)[b"etag"].decode()
    for known in (tag, f'"other", W/{tag}', "*"):
        again = got("/dashboard", if_none_match=known)
        assert (again.status, again.body, dict(again.more_headers)[b"etag"]) == (304, b"", tag.encode())
    assert got("/dashboard", if_none_match='"other"').status == 200


def test_only_what_belongs_to_the_page_is_served() -> None:
    assert "/dashboard/package.json" not in assets.views()
    assert "/dashboard/index.html" not in assets.views()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_refers_to_nothing_elsewhere_and_has_nothing_inline(path: Path) -> None:
    text = path.read_text()
    elsewhere = [url for url in re.findall(r"https?://[^\s\"')]+", text) if url != "http://www.w3.org/2000/svg"]
    assert elsewhere == []
    if path.suffix == ".html":
        assert not re.search(r"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", text)
    if path.suffix == ".js":
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text)


def test_every_import_and_link_leads_to_a_file() -> None:
    views = assets.views()
    for path in FILES:
        text = path.read_text()
        for name in re.findall(r"""(?:from|import) "(\.[^"]+)";""", text):
            assert (path.parent / name).is_file(), f"{path.name}: {name}"
        for url in re.findall(r"""(?:href|src)="(/dashboard/[^"]+)""", text):
            assert url in views, url
