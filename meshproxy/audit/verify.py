"""Whether an audit log is what was written: judged line by line, with flat memory; pure.

What is found: a line that was changed, removed, inserted or moved, within a file and between rotated ones; a checkpoint
that is not the sidecar's. What cannot be found in the log alone: that its end was cut off, lines and checkpoints and
all, or that everything after the last checkpoint was written anew. That shows only against a checkpoint which was kept
elsewhere (`Known`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from meshproxy.audit.chain import Head, chained, hash_of, read_link
from meshproxy.audit.checkpoints import CheckpointError, read, trust_fault
from meshproxy.audit.lines import LONGEST, Checkpoint, Decision, Missing, Opened, Why, encode, opened_by, read_body

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from meshproxy.audit.chain import Link
    from meshproxy.audit.checkpoints import Seal
    from meshproxy.audit.lines import Body

_LONGEST_CUT: Final = 2 * LONGEST  # no crash leaves more
_MOST_FAULTS: Final = 100  # told one by one; a file that is no audit log has one in each line


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that would not be there if nobody had touched the log."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


@dataclass(frozen=True, slots=True)
class Demands:
    """By what a log is judged: the roots (PEM; None: nobody's word is asked for), and whose it has to be."""

    bundle: bytes | None = None
    signer: str = ""  # a full SPIFFE ID
    known: tuple[Seal, ...] = ()  # of checkpoints that were kept elsewhere


@dataclass(slots=True)
class Report:
    """What was found in one chain."""

    chain: str = ""
    files: list[str] = field(default_factory=list)
    begins_at: int = 0  # number of the first line here; above 1: what came before was not looked at
    reached: int = 0  # number of the last line
    decisions: int = 0
    checkpoints: int = 0
    covered: int = 0  # up to this line a checkpoint vouches for all
    signers: list[str] = field(default_factory=list)
    missing: int = 0  # decisions that could not be recorded, and were refused
    crashes: int = 0
    ended: bool = False  # properly: the last line is the checkpoint a process leaves when it ends
    being_written: bool = False  # the last line is cut: it is being written, or a crash cut it
    faults: list[Fault] = field(default_factory=list)
    more_faults: int = 0

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.faults


class Verifier:
    """Judges one chain: `take` its files in order, each with its lines, then ask for the `report`."""

    def __init__(self, demands: Demands) -> None:
        self._demands = demands
        self._report = Report()
        self._head: Head | None = None
        self._cut: tuple[int, bytes] | None = None  # number and bytes of a line that is none, if that came last
        self._last: Body | None = None
        self._file = ""
        self._number = 0
        self._known: dict[int, list[str]] = {}
        for each in demands.known:
            self._known.setdefault(each.seq, []).append(each.hash)

    def __repr__(self) -> str:
        return f"<Verifier {self._report.chain} at {self._head}>"

    def take(self, file: str, lines: Iterable[bytes]) -> None:
        """Judge the lines of the next file, each with its newline; only the very last may lack it."""
        self._close_cut()
        self._file, self._number = file, 0
        self._report.files.append(file)
        for self._number, line in enumerate(lines, 1):
            self._take_line(line)
            if self._number == 1 and not isinstance(self._last, Opened):
                self._fault("a file begins with the event `opened`: its beginning is gone")

    def report(self) -> Report:
        """Return what was found in all of it."""
        report = self._report
        if self._cut is not None and not self._cut[1].endswith(b"\n"):
            report.being_written, self._cut = True, None
        self._close_cut()
        report.reached = self._head.seq if self._head else 0
        if not report.reached and not report.faults:
            self._fault("there is not one line")
        report.ended = isinstance(self._last, Checkpoint) and _why(self._last) is Why.STOPPED
        self._compare_end()
        return report

    def _take_line(self, line: bytes) -> None:
        link, body = read_link(line), read_body(line)
        if link is None or body is None or not line.endswith(b"\n"):
            number, before = self._cut or (self._number, b"")
            self._cut = (number, before + line)
            if len(self._cut[1]) > _LONGEST_CUT:
                self._close_cut()
            return
        if self._cut is not None:
            self._judge_cut(body)
        self._judge_place(link)
        if isinstance(body, Checkpoint):
            self._judge_checkpoint(line, link, body)
        elif isinstance(body, Opened):
            self._judge_opened(body)
        elif isinstance(body, Missing):
            self._report.missing += body.count
        elif isinstance(body, Decision):
            self._report.decisions += 1
        self._head, self._last = Head(link.seq, hash_of(line)), body
        self._compare(self._head)

    def _judge_place(self, link: Link) -> None:
        head = self._head
        if head is None:
            self._report.begins_at = link.seq
            if link.seq <= 1 and not link.follows(Head()):
                self._fault(f"line {link.seq} of the chain does not begin it")
        elif link.follows(head):
            pass
        elif link.seq == head.seq + 1:
            self._fault(f"line {head.seq} of the chain was changed or exchanged: line {link.seq} is not its successor")
        elif link.seq > head.seq + 1:
            self._fault(f"lines {head.seq + 1} to {link.seq - 1} of the chain are missing")
        else:
            self._fault(f"line {link.seq} of the chain stands after line {head.seq}: moved, or put in")

    def _judge_cut(self, body: Body) -> None:
        """Judge a line that is none by the next: whoever takes a file up after a crash says what he found."""
        if self._cut is not None and isinstance(body, Opened) and body.cut_bytes:
            rest = self._cut[1].removesuffix(b"\n")
            if (body.cut_bytes, body.cut_sha256) == (len(rest), hash_of(rest)):
                self._cut = None
                self._report.crashes += 1
        self._close_cut()

    def _close_cut(self) -> None:
        if self._cut is not None:
            number, self._cut = self._cut[0], None
            self._fault("this is no line of an audit log", line=number)

    def _judge_opened(self, body: Opened) -> None:
        report = self._report
        report.chain = report.chain or body.chain
        if body.chain != report.chain:
            self._fault(f"another chain begins here, {body.chain[:40]!a}")
        if body.why is Why.RESTARTED and not (isinstance(self._last, Checkpoint) and _why(self._last) is Why.STOPPED):
            report.crashes += not body.cut_bytes  # else it is counted

    def _judge_checkpoint(self, line: bytes, link: Link, body: Checkpoint) -> None:
        report, demands = self._report, self._demands
        report.checkpoints += 1
        try:
            sealed = read(body)
        except CheckpointError as error:
            self._fault(f"a checkpoint cannot be believed: {error}")
            return
        seal, signer, before = sealed.seal, str(sealed.signer), len(report.faults) + report.more_faults
        # Its own line is not covered by its signature, so nothing may stand there that does not follow from that.
        if line != chained(Head(link.seq - 1, link.prev), encode(body)) or seal.at != body.ts:
            self._fault("the line of a checkpoint was changed")
        if (seal.seq, seal.hash) != (link.seq - 1, link.prev):
            self._fault(f"a checkpoint of line {seal.seq} stands after line {link.seq - 1}: it belongs elsewhere")
        if report.chain and seal.chain != report.chain:
            self._fault(f"a checkpoint of another chain, {seal.chain[:40]!a}")
        wanted = demands.signer or (report.signers[0] if report.signers else signer)
        if signer != wanted:
            self._fault(f"a checkpoint signed by {signer}, expected {wanted}")
        if demands.bundle is not None and (fault := trust_fault(sealed, demands.bundle)):
            self._fault(f"a checkpoint signed by {signer}, for whom nobody vouches: {fault}")
        if signer not in report.signers:
            report.signers.append(signer)
        if len(report.faults) + report.more_faults == before:
            report.covered = seal.seq

    def _compare(self, head: Head) -> None:
        """Compare a line with the checkpoints of it that were kept elsewhere."""
        for known in self._known.pop(head.seq, ()):
            if known != head.hash:
                self._fault(f"line {head.seq} of the chain is not the one that the checkpoint kept elsewhere was of")

    def _compare_end(self) -> None:
        for each in self._demands.known:
            if each.chain and each.chain != self._report.chain:
                self._fault(f"the checkpoint kept elsewhere is of another chain, {each.chain[:40]!a}")
            elif each.seq > self._report.reached:
                self._fault(
                    f"the end is cut off: the checkpoint kept elsewhere is of line {each.seq}, "
                    f"and only {self._report.reached} are here"
                )
            elif each.seq < self._report.begins_at:
                self._fault(f"the checkpoint kept elsewhere is of line {each.seq}, before the first of these files")

    def _fault(self, text: str, *, line: int | None = None) -> None:
        if len(self._report.faults) < _MOST_FAULTS:
            self._report.faults.append(Fault(self._file, line or self._number, text))
        else:
            self._report.more_faults += 1


def in_order(beginnings: Sequence[tuple[str, bytes]]) -> list[list[str]]:
    """Sort files by their first lines: a list for each chain, in the order of the chain.

    A file that begins with no line of an audit log is a chain of its own, and will be found faulty.
    """
    chains: dict[str, list[tuple[int, str]]] = {}
    for file, line in beginnings:
        link, opened = read_link(line), opened_by(line)
        chain = opened.chain if opened is not None else f" {file}"
        chains.setdefault(chain, []).append((link.seq if link else 0, file))
    return [[file for _, file in sorted(files)] for files in chains.values()]


def _why(checkpoint: Checkpoint) -> Why | None:
    try:
        return read(checkpoint).seal.why
    except CheckpointError:
        return None
