"""The plugin as a project of somebody else sees it: in processes of their own, by what pytest prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/testing"

# Where the checkout is installed as of now the plugin is found by itself; naming it also works where it is older.
INSTALLED = any(each.value == "meshproxy.pytest_plugin" for each in entry_points(group="pytest11"))


def run_pytest(directory: Path, *options: str) -> tuple[int, str]:
    named = () if INSTALLED else ("-p", "meshproxy.pytest_plugin")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *named, "-p", "no:cacheprovider", *options, str(directory)],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    print(done.stdout, done.stderr)
    return done.returncode, done.stdout


def project(directory: Path, **files: str) -> Path:
    """A project without any settings of its own; `x__py` is the file `x.py`."""
    (directory / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    for name, text in files.items():
        (directory / name.replace("__", ".")).write_text(text)
    return directory


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The example, copied as a reader would."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "orders", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.mark.parametrize("options", [(), pytest.param(("-n", "2"), marks=pytest.mark.long)], ids=["plain", "xdist"])
def test_the_example_passes(example: Path, options: tuple[str, ...]) -> None:
    code, told = run_pytest(example, *options)
    assert (code, "13 passed" in told) == (0, True)


def test_the_example_fails_when_its_allow_list_grants_more(example: Path) -> None:
    allow_list = example / "orders.allow.toml"
    allow_list.write_text(allow_list.read_text().replace('methods = ["GET"]', 'methods = ["GET", "POST"]', 1))
    code, told = run_pytest(example)
    assert (code, "2 failed, 11 passed" in told) == (1, True)
    assert re.search(
        r"orders\.cases\.toml:12: /web POST /orders: allowed by 'web-reads' \(\S*orders\.allow\.toml:1\), expected d",
        told,
    )
    assert re.search(r"- meshproxy mesh -+\ndecisions\n/orders: /web POST /orders: allow \(web-reads, ", told)
    assert "Traceback" not in told


def test_a_case_that_is_not_met_says_what_came_nearest(tmp_path: Path) -> None:
    allow = '[[allow]]\nname = "reads"\nfrom = "/web"\nmethods = ["GET"]\n'
    cases = (
        'policy = "api.allow.toml"\n\n[[case]]\nfrom = "/web"\nmethod = "PUT"\npath = "/a"\nexpect = "allow"\n'
        '\n[[case]]\npolicy = "gone.allow.toml"\nfrom = "/web"\nexpect = "deny"\n'
    )
    code, told = run_pytest(project(tmp_path, api__allow__toml=allow, api__cases__toml=cases), "-v")
    assert (code, "2 failed" in told) == (1, True)
    assert 'api.cases.toml:3: /web PUT /a: denied (method), expected allowed\nnearest: rule "reads" (' in told
    assert "gone.allow.toml is no file; create it or correct the name" in told
    assert "api.cases.toml::3: allow /web PUT /a FAILED" in told


def test_a_faulty_file_of_cases_is_one_clear_message(tmp_path: Path) -> None:
    cases = 'policy = "api.allow.toml"\n[[case]]\nfrom = "web"\nexpect = "perhaps"\n'
    code, told = run_pytest(project(tmp_path, api__cases__toml=cases))
    assert (code, "Traceback" in told) == (2, False)
    assert re.search(r"api\.cases\.toml:3: case\[0\]\.from: found .*\n.*api\.cases\.toml:4: ", told)


def test_whoever_asks_for_nothing_pays_for_nothing(tmp_path: Path) -> None:
    test = (
        "import sys\n\n\ndef test_nothing_was_imported():\n"
        "    heavy = {'trio', 'cryptography', 'structlog', 'msgspec', 'meshproxy.testing'}\n"
        "    assert heavy & set(sys.modules) == set()\n"
    )
    code, _ = run_pytest(project(tmp_path, test_it__py=test), "-p", "no:trio", "-p", "no:hypothesispytest")
    assert code == 0
