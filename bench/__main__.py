"""`make bench`: measure, print one table, save it as JSON. Ctrl-C ends everything that was started."""

from __future__ import annotations

import argparse
import os
import resource
import shlex
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.contest import Contest, announce, tell
from bench.machine import describe_machine, describe_versions
from bench.markdown import render_markdown
from bench.options import Options
from bench.peers import PEERS, find_peer
from bench.processes import BenchError, find_cores, need_program
from bench.results import Report, from_json, to_json
from bench.rows import ROWS, select_rows
from bench.table import render_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

    from bench.contest import Row
    from bench.peers import Peer

_RESULTS: Final = Path(__file__).resolve().parent / "results"
_DEFAULTS: Final = Options()
_STOPPING: Final = (signal.SIGINT, signal.SIGTERM)
_INTERRUPTED: Final = 130  # as a shell says it


def main() -> int:
    """Run the benchmark; returns 0 if every row was measured, 1 if not, 2 if it could not begin, 130 if stopped."""
    arguments = _parse()
    render = render_markdown if arguments.markdown else render_text
    try:
        if arguments.show:
            print(render(from_json(arguments.show.read_bytes())))
            return 0
        rows, peers = select_rows(arguments.only), _select_peers(arguments.peers)
        report, was_stopped = _measure(rows, peers, _options(arguments))
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2
    tell("")
    print(render(report))
    if report.blocks:
        path = arguments.json or _RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H%M%S}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(to_json(report))
        print(f"\nsaved in {path}")
    if was_stopped:
        print("stopped; what was started has ended", file=sys.stderr)
    return _INTERRUPTED if was_stopped else int(bool(report.failures))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", default="", help=f"rows, separated by commas, of: {', '.join(ROWS)}")
    parser.add_argument("--peers", default="", help=f"peers, separated by commas, of: {', '.join(PEERS)}")
    parser.add_argument("--rounds", type=_positive, default=_DEFAULTS.rounds, help="turns of each contestant")
    parser.add_argument("--seconds", type=_positive, default=_DEFAULTS.seconds, help="of load per turn")
    parser.add_argument("--held", type=_positive, default=_DEFAULTS.held, help="connections held in memory-held")
    parser.add_argument("--rate", type=_positive, default=_DEFAULTS.rate, help="per second in tcp-rate and http-rate")
    parser.add_argument("--ghostunnel", type=Path, help="where it is, if not on PATH")
    parser.add_argument("--peer-logs", choices=("on", "off"), default="on", help="let peers write access logs too")
    parser.add_argument("--json", type=Path, help="where to save the samples")
    parser.add_argument("--markdown", action="store_true", help="print Markdown instead of the table for a terminal")
    parser.add_argument("--show", type=Path, metavar="JSON", help="measure nothing, print what was saved there")
    return parser.parse_args()


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("it has to be 1 or more")
    return number


def _options(arguments: argparse.Namespace) -> Options:
    return Options(
        rounds=arguments.rounds,
        seconds=arguments.seconds,
        held=arguments.held,
        rate=arguments.rate,
        ghostunnel=arguments.ghostunnel and arguments.ghostunnel.absolute(),  # it is started elsewhere
        peer_logs=arguments.peer_logs == "on",
    )


def _select_peers(names: str) -> list[Peer]:
    wanted = [name.strip() for name in names.split(",") if name.strip()] or list(PEERS)
    wrong = [name for name in wanted if name not in PEERS]
    if wrong:
        raise BenchError(f"no peer is called {', '.join(wrong)}; the peers are {', '.join(PEERS)}")
    return [PEERS[name] for name in wanted]


def _measure(rows: Sequence[Row], wanted: Sequence[Peer], options: Options) -> tuple[Report, bool]:
    """Run the rows; returns the report, and whether somebody stopped it before its end."""
    need_program("wrk", "wrk")
    machine, cores = describe_machine(), find_cores()
    os.sched_setaffinity(0, {cores.load})  # whatever is started and not told otherwise is load
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    present = [peer for peer in wanted if find_peer(peer, options.ghostunnel) is not None]
    report = Report(
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        command=shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
        machine=machine,
        versions=describe_versions(present, options),
        options=options.told(),
        missing={peer.name: peer.install for peer in wanted if peer not in present},
        blocks=[],
        failures={},
    )
    contest = Contest(options, cores, present)
    for stopping in _STOPPING:
        signal.signal(stopping, _stop)
    try:
        for number, row in enumerate(rows, 1):
            announce(f"{number} of {len(rows)}: {row.name}")
            try:
                report.blocks.extend(row.run(contest))
            except (BenchError, OSError) as error:  # what was measured before is not lost for that
                report.failures[row.name] = str(error)
    except KeyboardInterrupt:
        return report, True
    return report, False


def _stop(_number: int, _frame: FrameType | None) -> None:
    for number in _STOPPING:
        signal.signal(number, signal.SIG_IGN)  # ending what was started is under way and short
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
