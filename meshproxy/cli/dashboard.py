"""`meshproxy dashboard`: many sidecars shown as one mesh, in a browser of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
import trio

from meshproxy.cli.terminal import Tone, example, fail, os_error_words, paint, print_problems
from meshproxy.dashboard.assets import ROOT
from meshproxy.dashboard.roll import Post, read_roll
from meshproxy.dashboard.serving import serve
from meshproxy.errors import FaultyInput, StartError
from meshproxy.settings.schema import DEFAULT_ADMIN
from meshproxy.wire.address import TcpAddress, UnixAddress, parse_address
from meshproxy.wire.listen import bind, bound_address

if TYPE_CHECKING:
    from meshproxy.wire.address import Address


@click.command(
    epilog=example(
        "meshproxy dashboard --sidecars /etc/meshproxy",
        "meshproxy dashboard --sidecars mesh.toml --listen unix:/run/meshproxy/dashboard.sock",
        "ssh -L 9901:127.0.0.1:9900 far-host    # then name 127.0.0.1:9901 in mesh.toml",
    )
)
@click.option(
    "--sidecars",
    metavar="FILE|DIR",
    type=click.Path(path_type=Path),
    help='A directory of sidecars\' settings and admin sockets, or a file with sidecars = ["127.0.0.1:9901", ...].',
)
@click.option(
    "--listen", default="127.0.0.1:9800", show_default=True, metavar="ADDR", help="Where: loopback or unix:/path only."
)
def dashboard(sidecars: Path | None, listen: str) -> None:
    """Gather the admin APIs of many sidecars, and show them as one mesh: graph, heat map, curves, denials.

    Without --sidecars the sidecar at the default admin address, 127.0.0.1:9900, is shown. A sidecar that does not
    answer is shown as such and harms nobody. Files are looked at again every few seconds. It only reads; it runs in the
    foreground, until Ctrl-C. Every sidecar also shows itself, at /dashboard of its own admin address.
    """
    address = _address(listen)
    posts = _posts(sidecars)
    try:
        listener = bind(address)
    except StartError as error:
        fail(str(error), exit_code=1)
    bound = bound_address(listener)
    where = f"{bound} (GET {ROOT})" if isinstance(bound, UnixAddress) else f"http://{bound}{ROOT}"
    of = f"{len(posts)} {'sidecar' if len(posts) == 1 else 'sidecars'}"
    click.echo(f"{paint(where, Tone.STRONG)}  {of}")
    trio.run(serve, listener, address, posts, sidecars)


def _address(text: str) -> Address:
    try:
        address = parse_address(text)
    except ValueError as error:
        fail(f"--listen {text!a}: expected {error}")
    if not address.is_local:
        what = "who sees the dashboard sees who calls whom, so it listens on this machine only"
        host = address.host if isinstance(address, TcpAddress) else ""
        fail(f"--listen {text!a}: {what}; to see it from elsewhere: ssh -L 9800:127.0.0.1:9800 {host or 'HOST'}")
    return address


def _posts(place: Path | None) -> tuple[Post, ...]:
    if place is None:
        return (Post(DEFAULT_ADMIN),)
    try:
        posts = read_roll(place)
    except FaultyInput as faulty:
        print_problems(faulty.problems)
        fail(f"{place} does not say where sidecars can be asked")
    except OSError as error:
        fail(f"cannot read {place}: {os_error_words(error)}")
    return posts
