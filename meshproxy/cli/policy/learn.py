"""`meshproxy policy learn`: an allow-list proposed from what was seen."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ca import storage
from meshproxy.cli.policy.lists import document_or_fail, own_domain, trust_domain_option
from meshproxy.cli.policy.logs import log_option, records_of
from meshproxy.cli.terminal import example, fail, os_error_words, printable
from meshproxy.policy.cases import NOBODYS
from meshproxy.policy.estate import file_of
from meshproxy.policy.learning import Learner, TooManyKinds

if TYPE_CHECKING:
    from ca.spiffe_id import TrustDomain
    from meshproxy.policy.learning import Proposal
    from meshproxy.policy.records import Record


@click.command(
    short_help="Propose a list from what was seen.",
    epilog=example(
        "meshproxy policy learn --log sidecar.log --out api.allow.toml",
        "meshproxy policy learn --log sidecar.log --against api.allow.toml",
    ),
)
@log_option
@click.option("--service", metavar="S", help="Only decisions of this listener, or by this service's list (/team/api).")
@click.option(
    "--against", metavar="FILE", type=click.Path(path_type=Path), help="Propose only what FILE does not grant yet."
)
@click.option("--with-denied", is_flag=True, help="Learn from what was refused, too: look at each rule twice.")
@click.option("--out", type=click.Path(path_type=Path), help="Into a new file, not to stdout.")
@trust_domain_option
def learn(
    *,
    logs: tuple[str, ...],
    service: str | None,
    against: Path | None,
    with_denied: bool,
    out: Path | None,
    trust_domain: str | None,
) -> None:
    """Propose an allow-list from a sidecar's log: just what was seen, ids in paths as `*`, which is said beside it.

    Run a listener with mode = "audit" for a while, learn, read what is proposed, and let `policy replay` tell what it
    would refuse. Callers that could not prove who they are have no line to learn from. Exits 0 when there is something
    to propose, 1 when nothing is missing, 2 when the logs hold no decision.
    """
    learner = Learner(with_denied=with_denied)
    try:
        for record in records_of(logs):
            if service is None or is_of(record, service):
                learner.take(record)
    except TooManyKinds:
        fail("the logs hold more than 100,000 kinds of requests: name --service, or a shorter log")
    if not learner.taken:
        fail("the logs hold no decision to learn from: expected access lines of a sidecar, as JSON")
    if learner.mixes_connections_and_requests:
        fail("the logs hold connections and requests, which no one list can judge: name --service")
    home = own_domain(trust_domain) or _only_domain(learner)
    rules = () if against is None else document_or_fail(against).rules
    proposals = list(learner.propose(home, against=rules, now=datetime.now(UTC)))
    for request in sorted(learner.unwritable):
        click.echo(f"meshproxy: {printable(request)} was seen, and no rule can name just this", err=True)
    if not proposals:
        click.echo("nothing is missing", err=True)
        raise SystemExit(1)
    _put(_text(learner, proposals), out)
    count = f"{len(proposals)} rule{'' if len(proposals) == 1 else 's'}"
    click.echo(f"{count} for {learner.taken:,} decisions; read each before you use it", err=True)


def is_of(record: Record, service: str) -> bool:
    """Whether a decision is of a listener of this name, or by the list of the service with this path."""
    if service.startswith("/"):
        return record.file == file_of(service) or record.file.endswith(f"/{file_of(service)}")
    return record.listener == service


def _only_domain(learner: Learner) -> TrustDomain:
    """The trust domain of all who were seen, if it is one; else identities are written in full."""
    domains = {caller.trust_domain for caller in learner.callers}
    return domains.pop() if len(domains) == 1 else NOBODYS


def _text(learner: Learner, proposals: list[Proposal]) -> str:
    head = (
        f"# Proposed by meshproxy policy learn from {learner.taken:,} recorded decisions. It\n"
        "# grants what was seen, and what is said of `*`. Read each rule, say why it is\n"
        "# there (reason, owner), and remove these comments.\n"
    )
    return head + "".join(f"\n{each.text}" for each in proposals)


def _put(text: str, out: Path | None) -> None:
    if out is None:
        click.echo(text, nl=False)
        return
    if out.exists():
        fail(f"{out} is there already; name a new file, or --against {out} for what is missing in it")
    try:
        storage.write_file(out, text.encode(), mode=0o644)
    except OSError as error:
        fail(f"{out} was not written: {os_error_words(error)}", exit_code=1)
