"""What pytest gets from an installed meshproxy: the fixture `mesh`, and `*.cases.toml` files as tests.

Loaded into every run of pytest where meshproxy is installed, so it imports nothing of it before that is asked for.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    import os
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from _pytest._code.code import TerminalRepr, TracebackStyle
    from pluggy import Result

    from meshproxy.policy.cases import Case
    from meshproxy.testing import Mesh

_SUFFIX = ".cases.toml"
_MESH = "meshproxy.testing.mesh"


@pytest.fixture
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh of sidecars in this process, with a throw-away CA and a clock of its own; see docs/testing.md."""
    from meshproxy.testing import Mesh  # noqa: PLC0415 - see above

    with Mesh(tmp_path_factory.mktemp("mesh")) as made:
        yield made


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Take files of expectations as `meshproxy policy test` reads them."""
    return CasesFile.from_parent(parent, path=file_path) if file_path.name.endswith(_SUFFIX) else None


# The older kind of wrapper: this module is loaded wherever meshproxy is installed, beside any version of pytest.
@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Result[pytest.TestReport], None]:
    """Show beside a failed test what the sidecars of its mesh decided and warned of."""
    report = (yield).get_result()
    room = sys.modules.get(_MESH)
    if room is not None and report.failed and isinstance(item, pytest.Function):
        report.sections += [
            (f"meshproxy {name}", value.account())
            for name, value in item.funcargs.items()
            if isinstance(value, room.Mesh)
        ]


class CasesFile(pytest.File):
    """A file of expectations; each `[[case]]` is one test."""

    def collect(self) -> Iterator[CaseItem]:
        """Read the cases; each has its line in its name, so that two alike are told apart."""
        from meshproxy.errors import FaultyInput  # noqa: PLC0415 - see above
        from meshproxy.policy.cases import read_cases  # noqa: PLC0415
        from meshproxy.settings.files import UnreadableFile, read_file  # noqa: PLC0415

        try:
            cases = read_cases(read_file(self.path)[0], file=self.path.name)
        except UnreadableFile as error:
            raise self.CollectError(f"{self.path} is {error.found}; {error.remedy}") from None
        except FaultyInput as faulty:
            raise self.CollectError("\n".join(map(str, faulty.problems))) from None
        for case in cases:
            expected = "allow" if case.allowed else "deny"
            yield CaseItem.from_parent(self, name=f"{case.line}: {expected} {case}", case=case)


class CaseItem(pytest.Item):
    """One expectation, asked of its allow-list."""

    def __init__(self, *, case: Case, **rest: object) -> None:
        super().__init__(**rest)  # type: ignore[arg-type]  # pytest's own: name and parent
        self._case = case

    def runtest(self) -> None:
        """Ask."""
        from meshproxy.policy.cases import decide_case  # noqa: PLC0415 - see above
        from meshproxy.testing.asking import explained  # noqa: PLC0415
        from meshproxy.testing.lists import read_list  # noqa: PLC0415

        case, now = self._case, datetime.now(UTC)
        policy = read_list(self.path.parent / case.policy, tcp="the case" if case.request is None else None)
        outcome = decide_case(case, policy, now=now)
        if outcome.fault:
            raise UnmetCase(f"{case.file}:{case.line}: {explained(outcome, policy, now=now)}")

    def repr_failure(
        self, excinfo: pytest.ExceptionInfo[BaseException], style: TracebackStyle | None = None
    ) -> str | TerminalRepr:
        """Say what was found and expected, without a traceback through us."""
        from meshproxy.testing.fault import MeshError  # noqa: PLC0415 - see above

        if isinstance(excinfo.value, UnmetCase | MeshError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[os.PathLike[str] | str, int | None, str]:
        """Where it is, and what is asked."""
        return self.path, self._case.line - 1, f"{self.path.name}:{self.name}"


class UnmetCase(AssertionError):
    """An allow-list says something else than was expected of it."""
