"""`make tls-report`: what scanners find at an inbound listener and at the CA's, kept as they said it, and judged.

sslscan looks as a caller with a certificate, testssl.sh as a stranger (3.0 cannot show one; in TLS 1.3 it sees all the
same what there is to see before it is refused). Nothing above informational may be found, but for what only means
something for a web site: `ONLY_ON_THE_WEB` says what, and why.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

import msgspec

from bench.options import Options
from bench.processes import BenchError, Cores, find_program, free_port, need_program
from bench.stage import open_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.stage import Stage

RESULTS: Final = Path(__file__).resolve().parent / "results" / "tls"
ONLY_ON_THE_WEB: Final = {
    "cert_expirationStatus": "a leaf lives for a day and is renewed at half of it",
    "cert_notAfter": "a leaf lives for a day and is renewed at half of it",
    "cert_revocation": "sidecars follow the CA's signed deny-list; nobody asks OCSP",
    "HSTS": "it is for browsers (RFC 6797); whoever speaks to a CA knows nothing but TLS",
    "DNS_CAArecord": "CAA binds public CAs (RFC 8659); this one is private",
}
_HARMLESS: Final = frozenset({"OK", "INFO", "DEBUG"})
_LEAST_BITS: Final = 112  # SP 800-57 part 1, table 4: until 2030
_SUITES: Final = frozenset({"TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"})
_HASHES: Final = ("SHA256", "SHA384", "SHA512", "ED25519")
_WITHIN: Final = 600.0  # seconds for testssl.sh, which takes two minutes


@dataclass(frozen=True, slots=True)
class Finding:
    """What a scanner found, above informational; `excused` says why it means nothing here, if it does not."""

    scanner: str
    what: str
    detail: str
    excused: str = ""

    def __str__(self) -> str:
        return f"{self.scanner}: {self.what}: {self.detail}" + (f" (excused: {self.excused})" if self.excused else "")


class _Told(msgspec.Struct):
    id: str
    severity: str
    finding: str


def judge_sslscan(report: str) -> list[Finding]:
    """Return what is wrong by an XML report of sslscan 2; raises BenchError for one that has seen no TLS 1.3."""
    root = ET.fromstring(report)
    seen = [_words(each) for each in root.iter("protocol") if each.get("enabled") == "1"]
    if "tls 1.3" not in seen:
        raise BenchError(f"sslscan has seen no TLS 1.3, only {seen or 'nothing'}")
    return [
        Finding("sslscan", each.tag, " ".join(filter(None, (each.text, *each.attrib.values()))))
        for each in root.iter()
        if each.tag in _FAULTS and _FAULTS[each.tag](each)
    ]


# What is a fault of an element of that name.
_FAULTS: Final[dict[str, Callable[[ET.Element], bool]]] = {
    "protocol": lambda each: each.get("enabled") == "1" and _words(each) != "tls 1.3",
    "renegotiation": lambda each: each.get("supported") != "0",
    "compression": lambda each: each.get("supported") != "0",
    "heartbleed": lambda each: each.get("vulnerable") != "0",
    "cipher": lambda each: each.get("cipher") not in _SUITES or each.get("strength") not in {"acceptable", "strong"},
    "group": lambda each: int(each.get("bits", "0")) < _LEAST_BITS,
    "pk": lambda each: int(each.get("bits", "0")) < _LEAST_BITS,
    "signature-algorithm": lambda each: not any(word in (each.text or "") for word in _HASHES),
    "self-signed": lambda each: each.text != "false",
    "expired": lambda each: each.text != "false",
}


def _words(protocol: ET.Element) -> str:
    return f"{protocol.get('type')} {protocol.get('version')}"


def judge_testssl(report: bytes) -> list[Finding]:
    """Return what is above informational in a JSON report of testssl.sh; raises BenchError for one without TLS 1.3."""
    told = msgspec.json.decode(report, type=list[_Told])
    if not any(each.id == "TLS1_3" and each.severity == "OK" for each in told):
        raise BenchError("testssl.sh has seen no TLS 1.3")
    return [
        Finding("testssl.sh", each.id, f"{each.severity}: {each.finding}", ONLY_ON_THE_WEB.get(each.id, ""))
        for each in told
        if each.severity not in _HARMLESS
    ]


def scan_with_sslscan(address: str, *, chain: Path, key: Path) -> str:
    """Return the report of sslscan as XML; raises BenchError."""
    program = need_program("sslscan", "sslscan")
    command = [program, "--no-colour", "--xml=-", f"--certs={chain}", f"--pk={key}", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN, check=True).stdout


def scan_with_testssl(host: str, address: str, *, bundle: Path, into: Path) -> bytes:
    """Return the report of testssl.sh on `host` at an address as JSON, which is kept as the file `into`."""
    program = need_program("testssl", "testssl.sh")
    ip, _, port = address.rpartition(":")
    into.unlink(missing_ok=True)  # it would be appended to
    how = ["--quiet", "--color", "0", "--warnings", "batch", "--nodns", "min", "--add-ca", bundle, "--jsonfile", into]
    command = [program, *how, "--ip", ip, f"{host}:{port}"]
    subprocess.run(list(map(str, command)), stdin=subprocess.DEVNULL, capture_output=True, timeout=_WITHIN, check=False)
    return into.read_bytes()


def _report(stage: Stage, into: Path) -> Iterator[Finding]:
    """Scan both listeners; what the scanners said is kept."""
    door, ca = free_port(), free_port()
    stage.write("nobody.allow.toml", "allow = []\n")
    file = stage.write(
        "api.toml",
        f'[identity]\ndir = "api"\n[admin]\nlisten = "unix:admin"\n[[inbound]]\nname = "api"\n'
        f'listen = "127.0.0.1:{door}"\nforward = "127.0.0.1:1"\nprotocol = "http"\npolicy = "nobody.allow.toml"\n',
    )
    run: list[str | Path] = [sys.executable, "-m", "meshproxy"]
    serve = [*run, "ca", "serve", "--dir", stage.directory / "ca", "--listen", f"127.0.0.1:{ca}", "--no-passphrase"]
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    for command, port in (([*run, "run", file], door), (serve, ca)):
        stage.processes.start(command, core=stage.cores.proxies, environment=environment).wait_until_listening(port)
    for name, host, port in (("inbound", "api", door), ("ca", "127.0.0.1", ca)):
        address = f"127.0.0.1:{port}"
        said = scan_with_sslscan(address, chain=stage.web.chain, key=stage.web.key)
        (into / f"{name}-sslscan.xml").write_text(said)
        yield from judge_sslscan(said)
        if find_program("testssl") is None:
            print("testssl.sh is not here: apt-get install testssl.sh")
            continue
        kept = into / f"{name}-testssl.json"
        found = scan_with_testssl(host, address, bundle=stage.web.bundle, into=kept)
        kept.write_text(json.dumps(json.loads(found), indent=1) + "\n")
        yield from judge_testssl(found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 if nothing was found that is not excused, 1 if something was, 2 if it could not be looked for."""
    parser = argparse.ArgumentParser(prog="python -m bench.tls_report", description=__doc__)
    parser.add_argument("--into", type=Path, default=RESULTS, help="where the scanners' reports are kept")
    into: Path = parser.parse_args(arguments).into
    into.mkdir(parents=True, exist_ok=True)
    core = min(os.sched_getaffinity(0))
    try:
        with open_stage(Cores(core, core), Options()) as stage:
            findings = list(_report(stage, into.absolute()))
    except (BenchError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 2
    for finding in findings:
        print(finding)
    wrong = [finding for finding in findings if not finding.excused]
    print(f"{len(wrong)} findings above informational, {len(findings) - len(wrong)} excused; reports in {into}")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
