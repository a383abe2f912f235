"""`make fuzz`: throw bytes at every parser that meets strangers, and tell what came of it.

python -m tests.fuzz [--seconds 300] [--engine atheris|hypothesis] [--findings DIR] [TARGET ...]
python -m tests.fuzz --again FILE TARGET     what was found, once more: with its traceback
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz import engines
from tests.fuzz.target import load, names


def main() -> int:
    """Returns 0 if nothing was found, 1 if something was."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", help=f"of: {', '.join(names())}; none: all")
    parser.add_argument("--seconds", type=float, default=300.0, help="for all of them together")
    parser.add_argument(
        "--engine", choices=("atheris", "hypothesis"), default="", help="default: atheris if it is here"
    )
    parser.add_argument("--findings", type=Path, help="where to put what breaks a target")
    parser.add_argument("--again", type=Path, metavar="FILE", help="run the one target once, with this")
    told = parser.parse_args()
    chosen = told.targets or names()
    if wrong := [name for name in chosen if name not in names()]:
        parser.error(f"no target is called {', '.join(wrong)}; there are {', '.join(names())}")
    if told.again is not None:
        load(chosen[0]).run(told.again.read_bytes())
        return 0
    findings = told.findings or Path(tempfile.mkdtemp(prefix="fuzz-"))
    print(f"{'target':<18} {'engine':<11} {'executions':>10} {'seconds':>8} {'per second':>10}  found", flush=True)
    total, broken = 0, 0
    for name in chosen:
        outcome = engines.run(name, told.seconds / len(chosen), findings, engine=told.engine)
        total += outcome.executions
        rate = outcome.executions / outcome.seconds if outcome.seconds else 0.0
        found = str(outcome.found or "nothing")
        line = (
            f"{name:<18} {outcome.engine:<11} {outcome.executions:>10} {outcome.seconds:>8.1f} {rate:>10.0f}  {found}"
        )
        print(line, flush=True)
        if outcome.found is not None:
            broken += 1
            print(outcome.trace, file=sys.stderr)
    print(f"{len(chosen)} targets, {total} executions, {broken} findings")
    return int(broken > 0)


if __name__ == "__main__":
    sys.exit(main())
