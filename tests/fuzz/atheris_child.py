"""One target under atheris: `python -m tests.fuzz.atheris_child TARGET SECONDS ARTIFACTS`; libFuzzer never returns."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

_ONE_INPUT = 10  # seconds that one input may take; milliseconds it should
_LONGEST = 16 * 1024


def main() -> None:
    """Fuzz until the time is over, or something breaks."""
    name, seconds, artifacts = sys.argv[1:]
    atheris = importlib.import_module("atheris")  # no import statement: it is not installed everywhere
    with atheris.instrument_imports(include=["meshproxy", "ca", "tests.fuzz"]):
        target = importlib.import_module("tests.fuzz.target").load(name)
    corpus = Path(artifacts) / "corpus"
    corpus.mkdir()
    for number, data in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(data)
    words = Path(artifacts) / "words" / "dictionary"
    words.parent.mkdir()
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
    options = [
        f"-max_total_time={seconds}",
        f"-artifact_prefix={artifacts}/",
        f"-timeout={_ONE_INPUT}",
        f"-max_len={_LONGEST}",
        f"-dict={words}",
        "-print_final_stats=1",
        "-rss_limit_mb=2048",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], target.run)
    atheris.Fuzz()


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


if __name__ == "__main__":
    main()
