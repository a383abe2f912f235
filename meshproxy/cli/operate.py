"""The commands around a running sidecar: run it, judge its files, ask how it is."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshproxy.cli.terminal import Tone, example, fail, paint, print_json, print_problems, wants_colour

if TYPE_CHECKING:
    from collections.abc import Callable

_FILE = click.argument("file", type=click.Path(path_type=Path))


@click.command(epilog=example("meshproxy run sidecar.toml", "meshproxy run --take-over sidecar.toml"))
@_FILE
@click.option("--take-over", is_flag=True, help="Take the listeners over from the sidecar of FILE that runs.")
@click.option("--detach", is_flag=True, help="With --take-over: return once it serves, and run on in the background.")
def run(file: Path, *, take_over: bool, detach: bool) -> None:
    """Run the sidecar that FILE describes, in the foreground.

    Logs go to stderr: JSON lines, or a readable form on a terminal. SIGTERM and SIGINT drain and a second one exits at
    once; SIGHUP looks at all files again. With `workers` several processes serve, and this one leads them. Exits 0 when
    nothing was cut, 1 otherwise or when it cannot start.

    With --take-over it gets the listening sockets from the running sidecar over its admin unix socket, serves, and only
    then has that one drain: nobody is refused meanwhile. If it cannot, the running one goes on as if nobody had asked.
    """
    if detach and not take_over:
        raise click.UsageError("--detach is for --take-over; a service manager starts the first one in the foreground")
    on_serving = _detached() if detach else None
    from meshproxy.errors import FaultyInput, StartError  # noqa: PLC0415 - `status` must not wait for the data path
    from meshproxy.runtime import process  # noqa: PLC0415 - as above
    from meshproxy.telemetry.events import LogStyle  # noqa: PLC0415 - as above

    watched = sys.stderr.isatty()
    look = process.LogLook(LogStyle.CONSOLE if watched else LogStyle.JSON, colors=wants_colour(sys.stderr))
    try:
        nothing_cut = process.run(file, look, take_over=take_over, on_serving=on_serving or (lambda: None))
    except FaultyInput as faulty:
        print_problems(faulty.problems)
        count = len(faulty.problems)
        goes_on = "; the running one goes on" if take_over else ""
        fail(f"{count} {'problem' if count == 1 else 'problems'}; nothing was started{goes_on}", exit_code=1)
    except StartError as error:
        fail(f"{error}; nothing was started", exit_code=1)
    raise SystemExit(0 if nothing_cut else 1)


def _detached() -> Callable[[], None]:
    """Go on in a process of its own, which returns from this; the one that was called waits for it, and never returns.

    What is returned is to be called when it serves: the first exits with 0 then, or with the code of one that cannot.
    Nothing runs yet, so a plain fork is safe.
    """
    heard, told = os.pipe()
    first = os.getpid()
    child = os.fork()
    if child:
        os.close(told)
        serves = os.read(heard, 1)
        if serves:
            os._exit(0)
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) or 1)
    os.close(heard)
    os.setsid()
    if os.environ.get("WATCHDOG_PID") == str(first):  # the service manager could not know us
        os.environ["WATCHDOG_PID"] = str(os.getpid())

    def serves_now() -> None:
        os.write(told, b"1")
        os.close(told)

    return serves_now


@click.command(epilog=example("meshproxy check sidecar.toml"))
@_FILE
@click.option("--json", "as_json", is_flag=True, help="Print the judgement as JSON on stdout.")
def check(file: Path, *, as_json: bool) -> None:
    """Judge everything that `run FILE` would load: settings, allow-lists, identity.

    Tells all faults at once and binds nothing, so it may be used beside a running sidecar. Exits 0 when all is sound,
    1 otherwise.
    """
    from meshproxy.runtime.cores import processes_for  # noqa: PLC0415 - as in run
    from meshproxy.runtime.judge import judge  # noqa: PLC0415 - as in run

    judgement = judge(file, datetime.now(UTC))
    if as_json:
        print_json({"sound": not judgement.problems, "problems": judgement.problems, "warnings": judgement.warnings})
        raise SystemExit(1 if judgement.problems else 0)
    for warning in judgement.warnings:
        click.echo(f"{paint('warning', Tone.WARNING, on=sys.stderr)}: {warning}", err=True)
    if judgement.problems:
        print_problems(judgement.problems)
        count = len(judgement.problems)
        fail(f"{file}: {count} {'problem' if count == 1 else 'problems'}", exit_code=1)
    if judgement.configuration is None:
        raise AssertionError("a sound judgement has it")
    settings = judgement.configuration.settings
    workers = processes_for(settings.runtime.workers)
    by = f", {workers} workers" if workers > 1 else ""
    whom = f"as {judgement.material.leaf.id}" if judgement.material else "without an identity yet: it enrols by token"
    click.echo(f"{paint('sound', Tone.GOOD)}: {file} {whom}{by}")
    for inbound in settings.inbound:
        policy = judgement.configuration.policies[inbound.name]
        rules = f"{len(policy.rules)} {'rule' if len(policy.rules) == 1 else 'rules'}"
        click.echo(f"  inbound   {inbound.name}: {inbound.listen} -> {inbound.forward}, {rules} of {policy.file}")
    for outbound in settings.outbound:
        click.echo(f"  outbound  {outbound.name}: {outbound.listen} -> {outbound.to}")


@click.command(epilog=example("meshproxy status sidecar.toml", "meshproxy status --json sidecar.toml | jq .identity"))
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--json", "as_json", is_flag=True, help="Print /status as it is.")
@click.option("--watch", is_flag=True, help="Ask again every second, until Ctrl-C.")
def status(file: Path | None, *, as_json: bool, watch: bool) -> None:
    """Ask the running sidecar how it is: identity and expiry, listeners, allow-lists, recent denials.

    FILE names the sidecar's settings, from which the admin address is taken; without it the default address
    127.0.0.1:9900 is asked. Exits 0 when it serves, 1 when it refuses or drains, 2 when it cannot be asked.
    """
    from meshproxy.cli.status import ask, in_words, watch_status  # noqa: PLC0415 - as in run

    if watch:
        watch_status(file, as_json=as_json)
        return
    answer = ask(file)
    if as_json:
        print_json(answer)
    else:
        click.echo(in_words(answer))
    raise SystemExit(0 if answer.state == "serving" else 1)


@click.command(epilog=example("meshproxy wait-ready sidecar.toml && exec my-service"))
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--timeout", default="30s", metavar="DURATION", show_default=True, help="How long to wait.")
def wait_ready(file: Path | None, timeout: str) -> None:
    """Wait until the sidecar of FILE serves: start what depends on it behind this.

    FILE as for `status`. Exits 0 when it serves, 1 when it does not within the timeout, saying why.
    """
    from meshproxy.cli.status import wait_until_ready  # noqa: PLC0415 - as in run
    from meshproxy.units import parse_duration  # noqa: PLC0415 - as in run

    try:
        seconds = parse_duration(timeout)
    except ValueError as error:
        fail(f"--timeout {timeout!r}: expected {error}")
    why = wait_until_ready(file, seconds)
    if why:
        fail(f"not ready after {timeout}: {why}", exit_code=1)
