"""docs/logs.md tells every field of the access lines, every end, failure and flag, and none that is not there."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from meshproxy.errors import Failure
from meshproxy.telemetry.access import AccessLine, ConnectionLine, RequestLine
from meshproxy.wire.ends import End

DOCUMENT = (Path(__file__).parents[2] / "docs/logs.md").read_text()
# https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/access_log/usage, "%RESPONSE_FLAGS%"
ENVOYS = set(
    "UH UF UO NR URX NC DT DC LH UT LR UR UC DI FI RL UAEX RLSE IH SI DPE UPE UMSDR OM DF DO DR RFCF".split()  # noqa: SIM905 - as Envoy lists them
)


def section(title: str) -> str:
    (found,) = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert isinstance(found, str)
    return found


def first_columns(text: str, heading: str) -> list[str]:
    """What stands in backquotes in the first column of the table with this heading."""
    (rows,) = re.findall(rf"^\| {re.escape(heading)} \|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [name for row in rows.splitlines() for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


@pytest.mark.parametrize(
    ("title", "line"), [("The access line of TCP", ConnectionLine), ("The access line of HTTP", RequestLine)]
)
def test_every_field_is_documented_and_every_documented_field_is_there(title: str, line: type[AccessLine]) -> None:
    fields = {field.encode_name for field in msgspec.structs.fields(line)}
    told = first_columns(section(title), "field")
    assert len(told) == len(set(told))
    assert set(told) == fields
    assert f"`{line.__struct_config__.tag}`" in section(title)  # what `event` says


def test_every_end_is_documented() -> None:
    assert sorted(first_columns(section("The access line of TCP"), "`end`")) == sorted(End)


def test_every_failure_is_documented_with_its_flag() -> None:
    text = section("The access line of HTTP")
    told = first_columns(text, "`failure`")
    # Of a TCP listener's far side: no request is told of it.
    assert set(told) | {"upstream_denied", "limit", "internal"} == {failure.word for failure in Failure}
    flags = first_columns(text, "`flag`")
    assert set(flags) == {failure.flag for failure in Failure if failure.word in told or failure is Failure.LIMIT} | {
        Failure.INTERNAL.flag
    }


def test_every_failure_has_a_flag_that_envoy_has() -> None:
    assert {failure.flag for failure in Failure} <= ENVOYS
