"""`make demo-policy`: from no allow-list to one that is enforced, without turning anybody away who should be let in.

The shop of the other demo, with orders in audit mode: what its customers do is learnt, read, tried, compared and then
enforced, with the commands a person types. Then somebody comes who should not.
"""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from examples.shop.caller import ask_tls, ask_unix, request
from examples.shop.performing import STOPPED, until_stopped
from examples.shop.processes import StageError
from examples.shop.stage import Stage, open_stage
from meshproxy.cli.terminal import Tone, paint

if TYPE_CHECKING:
    from examples.shop.caller import Answer

HERE: Final = Path(__file__).parent
_ROUNDS: Final = 40  # of what customers do
_PATIENCE: Final = 20.0
_LOOK_EVERY: Final = 0.1
_LIST: Final = "orders.allow.toml"
_ORDERS_PORT: Final = 8441
_LOG: Final = "logs/orders.sidecar.log"
_DOMAIN: Final = ("--trust-domain", "shop.example")


@dataclass(slots=True)
class Show:
    """What was promised, and whether it was kept; and where to look when it was not."""

    verdicts: dict[str, bool] = field(default_factory=dict)
    failure: str = ""
    directory: str = ""
    stopped_by: int | None = None

    def stop(self, number: int) -> None:
        """Note which signal ended it."""
        self.stopped_by = number

    @property
    def is_good(self) -> bool:
        """Whether all of it was kept."""
        return bool(self.verdicts) and all(self.verdicts.values()) and not self.failure

    def step(self, words: str) -> None:
        """Say what comes next."""
        print(f"\n{paint(words, Tone.STRONG)}", flush=True)

    def judge(self, words: str, *, kept: bool) -> None:
        """Say what came of a promise."""
        self.verdicts[words] = kept
        print(f"{paint('kept', Tone.GOOD) if kept else paint('BROKEN', Tone.BAD)}  {words}", flush=True)


async def play(stage: Stage, show: Show) -> None:
    """All of it. Raises StageError."""
    show.directory = str(stage.directory)
    (stage.directory / _LIST).write_text("allow = []\n")
    _set_mode(stage, "audit")
    await stage.mint()
    async with trio.open_nursery() as nursery:
        await stage.start(nursery)
        await _before(stage, show)
        await _learn_and_review(stage, show)
        await _enforce(stage, show)
        await _intrude(stage, show)
        nursery.cancel_scope.cancel()


async def _before(stage: Stage, show: Show) -> None:
    show.step("1  orders has no allow-list yet; in audit mode all are let pass, and told of")
    print('       orders.allow.toml:  allow = []          orders.toml:  mode = "audit"')
    answers = await _customers(stage)
    print(f"       {len(answers)} calls of customers: {_counted(answers)}")
    show.judge("in audit mode nobody is turned away", kept=_none_denied(answers))


async def _learn_and_review(stage: Stage, show: Show) -> None:
    show.step("2  learn from what was let pass, and read it")
    policy = ("learn", "--log", _LOG, "--service", "api", *_DOMAIN, "--out", "policies/orders.allow.toml")
    (stage.directory / "policies").mkdir()
    show.judge("something is proposed", kept=await _run(stage, *policy) == 0)
    print(_indented((stage.directory / "policies/orders.allow.toml").read_text()))
    show.step("3  review: what it grants more than the list before, who can do what, and whether it is what we expect")
    await _run(stage, "diff", _LIST, "policies/orders.allow.toml")
    await _run(stage, "who-can", "/orders", "--method", "POST")
    (stage.directory / "policies/cases.toml").write_text((HERE / "cases.toml").read_text())
    show.judge("it says what we expect", kept=await _run(stage, "test", "policies/cases.toml", "--verbose") == 0)
    await _run(stage, "check", "policies", "--require", "reason")
    await _run(stage, "replay", "policies/orders.allow.toml", "--log", _LOG, "--listener", "api", *_DOMAIN)


async def _enforce(stage: Stage, show: Show) -> None:
    show.step('4  put it in force: mv policies/orders.allow.toml orders.allow.toml; mode = "enforce"')
    (stage.directory / "policies/orders.allow.toml").rename(stage.directory / _LIST)
    _set_mode(stage, "enforce")
    stage.skip_logs()
    with trio.move_on_after(_PATIENCE):
        while not (await stage.log("orders").line(event="reloaded")):  # noqa: ASYNC110 - a line of another process
            await trio.sleep(_LOOK_EVERY)
    answers = await _customers(stage)
    print(f"       {len(answers)} calls of customers: {_counted(answers)}")
    show.judge("nobody is turned away who should be let in", kept=_none_denied(answers))


async def _intrude(stage: Stage, show: Show) -> None:
    show.step("5  somebody comes who should not: /orders-qa, with a certificate of this mesh")
    stage.skip_logs()
    port, qa = stage.port(_ORDERS_PORT), stage.identity("orders-qa")
    answer = await ask_tls(port, request("GET", "/orders"), roots=stage.roots, identity=qa)
    show.judge(f"it is denied: {answer.status}", kept=answer.status == 403)
    line = await stage.log("orders").line(event="denied")
    show.judge("the log says who, for what, and why", kept=line["caller"].endswith("/orders-qa"))
    print("       grep '\"denied\"' logs/orders.sidecar.log | tail -1 > denied.json")
    last = [each for each in (stage.directory / _LOG).read_text().splitlines() if '"denied"' in each][-1]
    (stage.directory / "denied.json").write_text(f"{last}\n")
    show.judge("and can be asked what would grant it", kept=await _run(stage, "explain", "--log", "denied.json") == 1)


async def _customers(stage: Stage) -> list[Answer]:
    """What customers do: order, and ask after it; through web, and by what web does on their behalf."""
    answers = []
    for number in range(_ROUNDS):
        answers.append(await stage.buy("lamp", 1 + number % 3))
        answers.append(await ask_unix(stage.web_to_orders, request("GET", f"/orders/{1 + number}")))
    answers.append(await ask_unix(stage.web_to_orders, request("GET", "/orders/whoami")))
    return answers


def _none_denied(answers: list[Answer]) -> bool:
    return not any(answer.status in {0, 403, 502, 503} for answer in answers)


def _counted(answers: list[Answer]) -> str:
    statuses: dict[int, int] = {}
    for answer in answers:
        statuses[answer.status] = statuses.get(answer.status, 0) + 1
    return ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))


def _set_mode(stage: Stage, mode: str) -> None:
    """Write the mode into the settings of orders, by rename, as an editor does."""
    file = stage.directory / "orders.toml"
    lines = [line for line in file.read_text().splitlines() if not line.startswith("mode")]
    at = next(number for number, line in enumerate(lines) if line.startswith("policy"))
    fresh = file.with_suffix(".new")
    fresh.write_text("\n".join([*lines[: at + 1], f'mode = "{mode}"', *lines[at + 1 :], ""]))
    fresh.rename(file)


async def _run(stage: Stage, *words: str) -> int:
    """Run a command of `meshproxy policy`, show it and what it says; returns its exit code."""
    print(f"     {paint('$', Tone.FAINT)} meshproxy policy {shlex.join(words)}", flush=True)
    done = await trio.run_process(
        [sys.executable, "-m", "meshproxy", "policy", *words],
        cwd=stage.directory,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    print(_indented(done.stdout.decode() + done.stderr.decode()), flush=True)
    return done.returncode


def _indented(text: str) -> str:
    return "".join(f"       {line}\n" for line in text.rstrip().splitlines()).rstrip("\n")


async def _perform(show: Show) -> None:
    async def on_stage() -> None:
        with open_stage(lambda: show.stopped_by is None and not show.is_good) as stage:
            try:
                await play(stage, show)
            except* StageError as group:
                show.failure = "\n".join(map(str, group.exceptions))

    await until_stopped(on_stage, show.stop)


def main() -> int:
    """Play the demo; returns the exit code."""
    show = Show()
    trio.run(_perform, show)
    if show.stopped_by is not None:
        print("\nStopped; every process is ended, the directory removed.", file=sys.stderr)
        return STOPPED + show.stopped_by
    kept = sum(show.verdicts.values())
    print(f"\n{kept} of {len(show.verdicts)} promises kept.")
    if not show.is_good:
        print(f"{show.failure}\n{show.directory}/logs has what every process said.")
    return 0 if show.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
