"""What a CA that serves shows at its admin address."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 - msgspec reads the annotations at run time
from typing import TYPE_CHECKING

import msgspec

from meshproxy.admin.answers import Page, negotiated
from meshproxy.runtime.pages import live_page, ready_page
from meshproxy.telemetry.exposition import form_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from meshproxy.admin.answers import Inquiry, View
    from meshproxy.enroll.account import Account
    from meshproxy.enroll.books import Books
    from meshproxy.enroll.housekeeping import Housekeeper
    from meshproxy.enroll.office import Office
    from meshproxy.telemetry.writer import LogWriter


class AuthorityStatus(msgspec.Struct, frozen=True):
    """`/status` of a CA. `state` is serving, not_ready or draining; `failing` names what of its own work fails."""

    state: str
    trust_domain: str
    dir: str
    listeners: tuple[str, ...]
    open: int
    bundle_sequence: int
    deny_list_sequence: int
    leaf_until: datetime | None
    intermediate_until: datetime | None
    root_until: datetime | None
    federated: tuple[str, ...]
    failing: tuple[str, ...]


class AuthorityViews:
    """The pages, and the numbers that are functions of the clock."""

    def __init__(
        self,
        books: Books,
        housekeeper: Housekeeper,
        office: Office,
        account: Account,
        writer: LogWriter,
        *,
        wall: Callable[[], datetime],
    ) -> None:
        self._books = books
        self._housekeeper = housekeeper
        self._office = office
        self._account = account
        self._writer = writer
        self._wall = wall
        self.draining = False
        self.listeners: tuple[str, ...] = ()
        account.figures.before_scrape(self._refresh)

    def __repr__(self) -> str:
        return f"<AuthorityViews {self.state}>"

    @property
    def state(self) -> str:
        """In one word: whether certificates are given."""
        if self.draining:
            return "draining"
        leaf = self._housekeeper.leaf
        sound = self._books.authority is not None and leaf is not None and leaf.is_valid(self._wall())
        return "serving" if sound and "ledger" not in self._account.failing else "not_ready"

    def all(self) -> Mapping[str, View | Inquiry]:
        """Return the pages by path."""
        return {
            "/live": live_page,
            "/ready": lambda: ready_page(self.state),
            "/status": lambda: Page(200, "application/json", msgspec.json.encode(self.status()) + b"\n"),
            "/metrics": negotiated(self._metrics),
        }

    def _metrics(self, accept: bytes) -> Page:
        form = form_for(accept)
        return Page(200, form.value, self._account.figures.exposition(form))

    def status(self) -> AuthorityStatus:
        """Return what `/status` shows."""
        leaf, ends, shown = self._housekeeper.leaf, self._housekeeper.ends, self._books.shown
        return AuthorityStatus(
            state=self.state,
            trust_domain=self._books.configured.trust_domain.name,
            dir=str(self._books.directory),
            listeners=self.listeners,
            open=self._office.open,
            bundle_sequence=shown.bundle_sequence,
            deny_list_sequence=shown.denied.sequence if shown.denied else 0,
            leaf_until=leaf.certificate.not_valid_after_utc if leaf else None,
            intermediate_until=ends.intermediate if ends else None,
            root_until=ends.root if ends else None,
            federated=tuple(sorted(shown.trust.federated)),
            failing=tuple(sorted(self._account.failing)),
        )

    def _refresh(self) -> None:
        figures, now, status = self._account.figures, self._wall(), self.status()
        ends = {"leaf": status.leaf_until, "intermediate": status.intermediate_until, "root": status.root_until}
        for name, until in ends.items():
            if until is not None:
                figures.expiry.labels(name).set((until - now).total_seconds())
        figures.bundle_sequence.set(status.bundle_sequence)
        figures.ready.set(status.state == "serving")
        figures.open.set(status.open)
        figures.log_dropped.set(self._writer.dropped)
        said = self._books.shown.denied
        if said is not None:
            figures.deny_list_sequence.set(said.sequence)
            figures.deny_list_age.set((now - said.issued).total_seconds())
