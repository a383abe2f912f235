"""`make corpus`: the shared corpus against meshproxy, HAProxy and nginx, as the README's tables show it.

The corpus lies beside the checkout (`../shared/corpus`, or CORPUS=path) and brings its runner, which plays caller and
service and judges what reaches the latter; of it nothing is kept here but figures. The peers are plain reverse proxies
without hardening options; meshproxy is an inbound listener over mutual TLS. A corpus of the project's own is read by
every `make test`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from bench.options import Options
from bench.peers import PEERS, version_of
from bench.processes import BenchError, Cores, find_program, free_port, need_program
from bench.stage import open_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.stage import Stage

_BESIDE: Final = Path(__file__).resolve().parents[2] / "shared" / "corpus"
_RESULTS: Final = Path(__file__).resolve().parent / "results" / "strictness.json"
_WITHIN: Final = 900.0
_ROOT: Final = str(Path(__file__).resolve().parent.parent)
_UNSAFE: Final = ("SMUGGLED", "DIRTY", "LEAK")


class Row(msgspec.Struct):
    """What the runner says of one case."""

    id: str
    verdict: str
    expect: str = ""  # of a request
    level: str = ""
    five_xx: bool = False


class _Report(msgspec.Struct):
    rows: list[Row]


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: which rows it is about, and which of them count."""

    text: str
    about: Callable[[Row], bool]
    counts: Callable[[Row], bool]
    of_all: bool = True

    def figure(self, rows: Sequence[Row]) -> str:
        """Return the figure of somebody's rows, with how many there are where that says something."""
        about = [row for row in rows if self.about(row)]
        counted = sum(map(self.counts, about))
        return f"{counted}/{len(about)}" if self.of_all else str(counted)


def _all(_row: Row) -> bool:
    return True


def _ok(row: Row) -> bool:
    return row.verdict == "ok"


LINES: Final = (
    Line("smuggled: more requests arrive than were sent", _all, lambda row: row.verdict == "SMUGGLED", of_all=False),
    Line("dirty: what is forwarded is itself faulty", _all, lambda row: row.verdict == "DIRTY", of_all=False),
    Line("leaked: hop-by-hop field, spoofed identity, h2c", _all, lambda row: row.verdict == "LEAK", of_all=False),
    Line("safe", _all, lambda row: row.verdict not in _UNSAFE),
    Line(
        "refused, where RFC 9112 says they must be",
        lambda row: row.expect == "reject" and row.level in {"must", "incomplete"},
        _ok,
    ),
    Line("refused, where it leaves room", lambda row: row.expect == "reject" and row.level == "strict", _ok),
    Line("CONNECT refused", lambda row: row.level == "policy", _ok),
    Line("ordinary requests forwarded", lambda row: row.expect == "accept", _ok),
    Line("harmless either way and handled so", lambda row: row.expect == "either", _ok),
    Line("5xx of its own", _all, lambda row: row.five_xx, of_all=False),
)


def read_rows(report: bytes) -> list[Row]:
    """Read what the runner wrote with `--json`; raises msgspec.ValidationError."""
    return msgspec.json.decode(report, type=_Report).rows


def table(rows: dict[str, list[Row]]) -> str:
    """Return everybody's figures side by side, as Markdown."""
    head = f"| requests | {' | '.join(rows)} |\n|---|{'---|' * len(rows)}\n"
    return head + "".join(
        f"| {line.text} | {' | '.join(line.figure(each) for each in rows.values())} |\n" for line in LINES
    )


def path_table(verdicts: dict[str, Counter[str]]) -> str:
    """Return the figures of the path tricks (allow `/public`) side by side, as Markdown."""
    return (
        "| path tricks | past the rule | read across it by some backend | honest ones refused |\n|---|---|---|---|\n"
        + (
            "".join(
                f"| {name} | {each['BYPASS']} | {each['RISK']} | {each['OVERBLOCK']} |\n"
                for name, each in verdicts.items()
            )
        )
    )


@dataclass(frozen=True, slots=True)
class Contestant:
    """Something to be judged. `start` gets the stage, the port to listen on and that of the service."""

    name: str
    start: Callable[[Stage, int, int, str], None]
    over_tls: bool = False
    needs: str = ""


def _start_meshproxy(stage: Stage, port: int, service: int, paths: str) -> None:
    rule = f'[[allow]]\nfrom = "/web"\n{paths}'
    policy = stage.write("api.allow.toml", rule)
    file = stage.write(
        "api.toml",
        f'[identity]\ndir = "api"\n[admin]\nlisten = "unix:admin"\n[[inbound]]\nname = "api"\n'
        f'listen = "127.0.0.1:{port}"\nforward = "127.0.0.1:{service}"\nprotocol = "http"\npolicy = "{policy}"\n'
        'head_timeout = "2s"\nidle_timeout = "3s"\n',
    )
    command: list[str | Path] = [sys.executable, "-m", "meshproxy", "run", file]
    stage.processes.start(command, core=stage.cores.proxies, environment={"PYTHONPATH": _ROOT}).wait_until_listening(
        port
    )


def _start_haproxy(stage: Stage, port: int, service: int, paths: str) -> None:
    acls = "".join(f"  acl granted {each}\n" for each in ("path /public /alive", "path_beg /public/"))
    allowed = f"{acls}  http-request deny unless granted\n" if paths else ""
    text = (
        "defaults\n  mode http\n  timeout connect 2s\n  timeout client 3s\n  timeout server 3s\n"
        f"  timeout http-request 2s\nfrontend in\n  bind 127.0.0.1:{port}\n{allowed}  default_backend app\n"
        f"backend app\n  server app 127.0.0.1:{service}\n"
    )
    program = need_program("haproxy", "haproxy")
    file = stage.write("haproxy.cfg", text)
    stage.processes.start([program, "-db", "-f", file], core=stage.cores.proxies).wait_until_listening(port)


def _start_nginx(stage: Stage, port: int, service: int, paths: str) -> None:
    to = f'proxy_pass http://127.0.0.1:{service}; proxy_http_version 1.1; proxy_set_header Connection ""; '
    to += "proxy_set_header Host $host;"
    places = f"location / {{ {to} }}"
    if paths:
        granted = ("= /public", "/public/", "= /alive")
        places = "location / { return 403; } " + " ".join(f"location {each} {{ {to} }}" for each in granted)
    name = stage.directory / "nginx"
    temporary = " ".join(
        f"{each}_temp_path {name}-{each};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = (
        f"worker_processes 1; daemon off; pid {name}.pid; error_log {name}-error.log warn;\n"
        f"events {{ worker_connections 1024; }}\nhttp {{ access_log off; {temporary} client_header_timeout 2s;"
        " client_body_timeout 2s; keepalive_timeout 3s;"
        f" server {{ listen 127.0.0.1:{port}; server_name localhost; {places} }} }}\n"
    )
    file = stage.write("nginx.conf", text)
    stage.processes.start([need_program("nginx", "nginx"), "-c", file], core=stage.cores.proxies).wait_until_listening(
        port
    )


CONTESTANTS: Final = (
    Contestant("meshproxy", _start_meshproxy, over_tls=True),
    Contestant("haproxy", _start_haproxy, needs="haproxy"),
    Contestant("nginx", _start_nginx, needs="nginx"),
)


def _run(stage: Stage, contestant: Contestant, corpus: Path, *, paths: bool) -> bytes:
    """Run the corpus, or its path tricks, against one of them; returns the runner's report."""
    port, service = free_port(), free_port()
    contestant.start(stage, port, service, 'paths = ["/public/**", "/alive"]\n' if paths else "")
    report = stage.directory / "report.json"
    command = [sys.executable, corpus / "http1_run.py", "--json", report]
    command += ["--proxy", f"127.0.0.1:{port}", "--upstream", f"127.0.0.1:{service}"]
    if contestant.over_tls:
        command += ["--cert", stage.web.chain, "--key", stage.web.key, "--ca", stage.web.bundle]
        command += [] if paths else ["--identity-header", "x-mesh-client-id"]
    if paths:
        command += ["--paths", corpus / "path_bypass.json", "--policy", "allow:/public"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=_WITHIN, check=False)
    if done.returncode not in {0, 1}:  # 1: it has found something, which is what we ask for
        raise BenchError(f"the runner cannot judge {contestant.name}: {done.stdout[-300:]}{done.stderr[-300:]}")
    return report.read_bytes()


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if meshproxy is safe, and forwards what is ordinary as often as its peers; else 1; 2 without corpus."""
    parser = argparse.ArgumentParser(prog="python -m bench.strictness", description=__doc__)
    parser.add_argument("--corpus", type=Path, default=_BESIDE)
    parser.add_argument("--json", type=Path, default=_RESULTS, help="where the figures are kept")
    told = parser.parse_args(arguments)
    corpus: Path = told.corpus
    if not (corpus / "http1_run.py").is_file():
        print(f"there is no corpus in {corpus}; `make test` reads the project's own", file=sys.stderr)
        return 2
    core = min(os.sched_getaffinity(0))
    rows: dict[str, list[Row]] = {}
    tricks: dict[str, Counter[str]] = {}
    try:
        for contestant in CONTESTANTS:
            if contestant.needs and find_program(contestant.needs) is None:
                print(f"{contestant.needs} is not here: apt-get install {contestant.needs}")
                continue
            name = f"{contestant.name} {_version(contestant)}".strip()
            with open_stage(Cores(core, core), Options()) as stage:
                rows[name] = read_rows(_run(stage, contestant, corpus, paths=False))
            with open_stage(Cores(core, core), Options()) as stage:
                tricks[name] = Counter(row.verdict for row in read_rows(_run(stage, contestant, corpus, paths=True)))
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2
    print(table(rows))
    print(path_table(tricks))
    figures = {line.text: {name: line.figure(each) for name, each in rows.items()} for line in LINES}
    told.json.write_text(json.dumps({"requests": figures, "path tricks": tricks}, indent=1) + "\n")
    return int(not is_good(rows, tricks))


def _version(contestant: Contestant) -> str:
    peer = PEERS.get(contestant.needs)
    return "" if peer is None else version_of(peer, need_program(peer.program, peer.program))


def is_good(rows: dict[str, list[Row]], tricks: dict[str, Counter[str]]) -> bool:
    """Whether the first is safe, lets nobody past a rule, and forwards what is ordinary as often as any other."""
    ours, *others = rows.values()
    accepted = [sum(row.expect == "accept" and _ok(row) for row in each) for each in (ours, *others)]
    unsafe = any(row.verdict in _UNSAFE or row.five_xx for row in ours)
    return not unsafe and accepted[0] == max(accepted) and not next(iter(tricks.values()))["BYPASS"]


if __name__ == "__main__":
    sys.exit(main())
