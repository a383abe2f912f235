"""The ready configurations for shipping logs are sound, as far as that can be seen without the programs."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

LOGS = Path(__file__).parents[2] / "examples/logs"


def test_vector_takes_every_input_from_somewhere() -> None:
    said = tomllib.loads((LOGS / "vector.toml").read_text())
    outputs = {*said["sources"], *said["transforms"]}
    outputs |= {f"kinds.{route}" for route in said["transforms"]["kinds"]["route"]}
    inputs = {name for part in ("transforms", "sinks") for each in said[part].values() for name in each["inputs"]}
    assert inputs <= outputs
    if (vector := shutil.which("vector")) is not None:
        subprocess.run([vector, "validate", "--no-environment", LOGS / "vector.toml"], check=True, timeout=60)


def sections(file: str) -> list[tuple[str, dict[str, str]]]:
    """Fluent Bit's classic form: sections in brackets, keys and values indented alike."""
    found: list[tuple[str, dict[str, str]]] = []
    for line in (LOGS / file).read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        if (section := re.fullmatch(r"\[([A-Z]+)\]", line)) is not None:
            found.append((section[1], {}))
        else:
            entry = re.fullmatch(r" {4}(\w+) +(\S.*)", line)
            assert entry is not None, line
            assert entry[1] not in found[-1][1], line
            found[-1][1][entry[1]] = entry[2]
    return found


def test_fluent_bit_knows_every_parser_and_tag() -> None:
    parts = sections("fluent-bit.conf")
    (service,) = [keys for name, keys in parts if name == "SERVICE"]
    parsers = {keys["Name"] for name, keys in sections(service["Parsers_File"]) if name == "PARSER"}
    tags = {keys["Tag"] for name, keys in parts if name == "INPUT"}
    assert [name for name, _ in parts] == ["SERVICE", "INPUT", "FILTER", "OUTPUT"]
    assert all(keys["Match"] in tags for name, keys in parts if name in {"FILTER", "OUTPUT"})
    assert {keys["Parser"] for _, keys in parts if "Parser" in keys} <= parsers
    if (program := shutil.which("fluent-bit")) is not None:
        subprocess.run([program, "--dry-run", "--config", LOGS / "fluent-bit.conf"], check=True, timeout=60)


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    if (analyze := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not installed")
    unit = tmp_path / "meshproxy.service"
    unit.write_text("[Unit]\nDescription=x\n[Service]\nExecStart=/bin/true\n")
    shutil.copytree(LOGS / "journald/meshproxy.service.d", tmp_path / "meshproxy.service.d")
    judged = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    told = [line for line in judged.stderr.splitlines() if "logs.conf" in line or "Unknown" in line]
    assert told == []
    (unit.parent / "meshproxy.service.d/logs.conf").write_text("[Service]\nNoSuchKey=1\n")
    judged = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    assert "NoSuchKey" in judged.stderr  # or it would not have told
