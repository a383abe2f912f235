"""`meshproxy policy graph`: who may call whom, drawn from the allow-lists of a whole mesh."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from meshproxy.cli.policy.lists import own_domain, trust_domain_option
from meshproxy.cli.policy.page import Arrow, page
from meshproxy.cli.policy.who_can import read_estate
from meshproxy.cli.terminal import example, fail, os_error_words
from meshproxy.policy.estate import accesses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ca.spiffe_id import TrustDomain
    from meshproxy.policy.document import Document
    from meshproxy.policy.estate import Access


@click.command(
    short_help="Draw who may call whom.",
    epilog=example(
        "meshproxy policy graph policies/ --format mermaid >> README.md",
        "meshproxy policy graph policies/ --format dot | dot -Tsvg > mesh.svg",
        "meshproxy policy graph policies/ --format html --out mesh.html",
    ),
)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--format", "form", type=click.Choice(["mermaid", "dot", "html"]), default="mermaid", show_default=True, help="How."
)
@click.option("--out", type=click.Path(path_type=Path), help="Into a file, not to stdout.")
@trust_domain_option
def graph(*, directory: Path, form: str, out: Path | None, trust_domain: str | None) -> None:
    """Draw who may call whom: an arrow from callers to each service that grants them something, with for what."""
    services = read_estate(directory)
    text = _FORMS[form](arrows(services, home=own_domain(trust_domain)), tuple(services))
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{out} was not written: {os_error_words(error)}", exit_code=1)


def arrows(services: Mapping[str, Document], *, home: TrustDomain | None) -> list[Arrow]:
    """The arrows, in order of service and caller; `home` is the trust domain whose identities are named short."""
    found: dict[tuple[str, str], list[Access]] = {}
    for each in accesses(services, now=datetime.now(UTC)):
        callers = each.callers
        text = str(callers.segments) if home is not None and callers.trust_domain == home else callers.text
        found.setdefault((each.service, text), []).append(each)
    return [
        Arrow(
            callers,
            service,
            tuple(dict.fromkeys(each.for_what for each in some)),
            anything=any(not each.rule.is_http_only for each in some),
        )
        for (service, callers), some in sorted(found.items())
    ]


def _mermaid(arrows: Sequence[Arrow], services: Iterable[str]) -> str:
    """As a Mermaid flowchart; its text knows entities by number only."""
    names = _names(arrows, services)
    lines = ["flowchart LR", *(f'  {name}["{_entities(text)}"]' for text, name in names.items())]
    lines += [
        f'  {names[each.callers]} -->|"{_entities("; ".join(each.what))}"| {names[each.service]}' for each in arrows
    ]
    return "".join(f"{line}\n" for line in lines)


def _entities(text: str) -> str:
    return "".join(char if char.isalnum() or char in " /.,:-_" else f"#{ord(char)};" for char in text)


def _dot(arrows: Sequence[Arrow], services: Iterable[str]) -> str:
    """In the DOT language of Graphviz."""

    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    lines = ["digraph mesh {", "  rankdir=LR;", "  node [shape=box, style=rounded];"]
    lines += [f"  {quoted(each)};" for each in sorted(services)]
    lines += [
        f"  {quoted(each.callers)} -> {quoted(each.service)} [label={quoted('; '.join(each.what))}];" for each in arrows
    ]
    return "".join(f"{line}\n" for line in (*lines, "}"))


def _names(arrows: Sequence[Arrow], services: Iterable[str]) -> dict[str, str]:
    texts = dict.fromkeys([*sorted(services), *(each.callers for each in arrows)])
    return {text: f"n{number}" for number, text in enumerate(texts)}


_FORMS: Final[Mapping[str, Callable[[Sequence[Arrow], Sequence[str]], str]]] = {
    "mermaid": _mermaid,
    "dot": _dot,
    "html": page,
}
