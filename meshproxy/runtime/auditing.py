"""The audit log of one process: its file, its thread, and the key that signs."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ca import keys
from ca.svid import read_chain
from meshproxy.admin.status import AuditStatus
from meshproxy.audit.checkpoints import Signer
from meshproxy.audit.file import AuditFile
from meshproxy.audit.journal import Journal
from meshproxy.inbound.audited import Witness
from meshproxy.inbound.brake import AuditGate, Brake
from meshproxy.runtime.telling import wall_clock
from meshproxy.settings.schema import Audited, WhenFull
from meshproxy.telemetry.access import Stamp

if TYPE_CHECKING:
    from pathlib import Path

    from meshproxy.identity.material import Material
    from meshproxy.identity.store import IdentityStore
    from meshproxy.policy.compile import Policy
    from meshproxy.settings.schema import AuditSettings, Inbound
    from meshproxy.telemetry.metrics import Metrics
    from meshproxy.telemetry.record import Recorder


@dataclass(frozen=True, slots=True)
class Auditing:
    """What records decisions in this process; `brake` under `when_full = "wait"`."""

    journal: Journal
    brake: Brake | None

    @classmethod
    def open(
        cls, settings: AuditSettings, identity: IdentityStore, recorder: Recorder, *, worker: int | None, shift: int
    ) -> Auditing:
        """Open the log and start its thread; raises FaultyInput when it cannot be written.

        `worker` counts from 1; None: there is one process only. `shift`: see `Origin`.
        """
        stamp = Stamp()
        journal = Journal(
            AuditFile.open(file_of(settings, worker, shift), stamp),
            settings,
            signer=IdentitySigner(identity),
            stamp=stamp,
            log=recorder.log,
        )
        recorder.metrics.before_scrape(lambda: _measure(journal, recorder.metrics))
        return cls(journal, Brake(journal) if settings.when_full is WhenFull.WAIT else None)

    def status(self) -> AuditStatus:
        """Return how it goes."""
        journal, figures = self.journal, self.journal.figures
        age = round(time.monotonic() - figures.checkpoint_at, 3)
        return AuditStatus(str(journal.file.path), journal.error, figures.records, figures.refused, journal.depth, age)

    def witness(self, settings: Inbound, policy: Policy, recorder: Recorder) -> Witness:
        """Return what has the decisions of a listener recorded."""
        return Witness(settings, policy, self.journal, recorder)

    def refuses_all(self, witness: Witness | None) -> bool:
        """Whether a listener refuses every call, as nothing can be recorded now."""
        if witness is None or not self.journal.failing:
            return False
        return witness.audited is Audited.ALL or (self.brake is not None and witness.audited is not Audited.OFF)

    def gate(self, witness: Witness | None) -> AuditGate | None:
        """Return where the callers of a listener wait for room, if they do."""
        return None if self.brake is None or witness is None else AuditGate(self.brake, witness)


@dataclass(slots=True)
class IdentitySigner:
    """Gives the key of the identity in use, as long as its certificate is valid; called in the journal's thread."""

    identity: IdentityStore
    _of: tuple[Material, Signer] | None = field(default=None, init=False, repr=False)

    def __call__(self) -> Signer | None:
        """Return it; None while there is none."""
        loaded = self.identity.loaded
        now = wall_clock()
        if loaded is None or not loaded.leaf.not_before <= now <= loaded.leaf.not_after:
            return None
        material = loaded.material
        if self._of is None or self._of[0] is not material:
            signer = Signer(read_chain(material.chain_pem), keys.from_pem(material.key_pem, passphrase=None))
            self._of = material, signer
        return self._of[1]


def file_of(settings: AuditSettings, worker: int | None, shift: int = 0) -> Path:
    """Return where a process writes: `audit.jsonl`, or of the second of several workers `audit.2.jsonl`.

    After a take-over it is `audit.b.jsonl` (`audit.b.2.jsonl`), and after the next one the first again: the process
    before holds a lock on its own until it has drained.
    """
    file = settings.file
    parts = [*(("b",) if shift else ()), *(() if worker is None else (str(worker),))]
    return file.with_name(".".join([file.stem, *parts]) + file.suffix)


def _measure(journal: Journal, metrics: Metrics) -> None:
    figures = journal.figures
    metrics.audit_records.labels().set(figures.records)
    metrics.audit_refused.labels().set(figures.refused)
    metrics.audit_failures.labels().set(figures.failures)
    metrics.audit_depth.labels().set(journal.depth)
    metrics.audit_failing.labels().set(journal.failing)
    metrics.audit_checkpoint_age.labels().set(time.monotonic() - figures.checkpoint_at)
