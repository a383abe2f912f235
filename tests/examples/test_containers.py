"""The image and the compose example, as far as that can be judged where no engine runs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from meshproxy.settings.load import load_configuration

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "examples" / "compose"
INSTRUCTIONS = [
    line.split(maxsplit=1)
    for line in (ROOT / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    if line.strip() and not line.startswith("#")
]


def test_the_image_is_pinned_and_runs_as_nobody_special() -> None:
    bases = {words.split()[0] for name, words in INSTRUCTIONS if name == "FROM"}
    assert len(bases) == 1
    assert all(base.rpartition(":")[2].count(".") == 2 for base in bases), bases  # 3.12.8-slim-bookworm
    users = [words for name, words in INSTRUCTIONS if name == "USER"]
    assert users == ["65532:65532"]
    last = [name for name, _ in INSTRUCTIONS][-2:]
    assert last == ["ENTRYPOINT", "CMD"]
    (health,) = [words for name, words in INSTRUCTIONS if name == "HEALTHCHECK"]
    assert '"meshproxy", "status"' in health


def test_what_is_copied_exists_and_is_not_ignored() -> None:
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {word for name, words in INSTRUCTIONS if name == "COPY" for word in words.split()[:-1]}
    assert copied <= kept
    for each in copied:
        assert (ROOT / each).exists(), each


@pytest.mark.parametrize("service", ["web", "orders"])
def test_the_sidecars_files_are_sound(service: str) -> None:
    configuration = load_configuration(COMPOSE / service / "sidecar.toml")
    assert configuration.settings.identity.ca


def test_compose_understands_its_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    told = subprocess.run(
        [docker, "compose", "-f", COMPOSE / "compose.yaml", "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
