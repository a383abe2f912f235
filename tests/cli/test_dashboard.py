"""The command `dashboard`: where it listens, whom it shows, and what it says when it cannot."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from meshproxy.cli.main import cli

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--listen", "0.0.0.0:9800"], "ssh -L"),
        (["--listen", "nowhere"], "expected host:port"),
        (["--sidecars", "gone"], "no file"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(cli, ["dashboard", *(each.replace("gone", str(tmp_path / "gone")) for each in arguments)])
    assert (done.exit_code, words in done.output) == (2, True), done.output


def test_page_is_served_with_a_sidecar_that_is_down(tmp_path: Path) -> None:
    roll = tmp_path / "mesh.toml"
    roll.write_text(f'sidecars = "unix:{tmp_path}/gone.sock"\n')
    command = [sys.executable, "-m", "meshproxy", "dashboard", "--sidecars", str(roll), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/dashboard  1 sidecar\n", line)
            assert found, line

            def got(path: str, host: str = "localhost") -> tuple[int, bytes]:
                connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=30)
                connection.request("GET", path, headers={"Host": host})
                answer = connection.getresponse()
                told = answer.status, answer.read()
                connection.close()
                return told

            assert got("/dashboard")[1].startswith(b"<!doctype html>")
            assert got("/dashboard", "evil.example")[0] == 421
            assert got("/")[0] == 302
            (sidecar,) = json.loads(got("/mesh")[1])["sidecars"]
            assert sidecar["address"] == f"unix:{tmp_path}/gone.sock"
            assert json.loads(got("/denials")[1])["denials"] == []
            assert got("/audit")[0] == 404
        finally:
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 0
