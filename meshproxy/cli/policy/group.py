"""`meshproxy policy`: allow-lists, without a running sidecar."""

from __future__ import annotations

import gc
from typing import Final

import click

from meshproxy.cli.policy.check import check
from meshproxy.cli.policy.diff import diff
from meshproxy.cli.policy.explain import explain
from meshproxy.cli.policy.graph import graph
from meshproxy.cli.policy.learn import learn
from meshproxy.cli.policy.replay import replay
from meshproxy.cli.policy.report import report
from meshproxy.cli.policy.test import test
from meshproxy.cli.policy.who_can import what_can_command, who_can_command
from meshproxy.cli.terminal import example

_OBJECTS_BETWEEN_LOOKS: Final = 500_000


@click.group(
    epilog=example(
        "meshproxy policy explain api.allow.toml --from /web --method GET --path /a",
        "meshproxy policy check policies/",
        "meshproxy policy diff --git main policies/",
    )
)
def policy() -> None:
    """Ask, check and compare allow-lists, with the evaluator that runs in the sidecar."""
    # Ten thousand rules are a million objects that stay to the end: to look through them again and again takes a third
    # of the time, and finds nothing.
    gc.set_threshold(_OBJECTS_BETWEEN_LOOKS)


for _command in (explain, check, test, diff, replay, learn, report, who_can_command, what_can_command, graph):
    policy.add_command(_command)
