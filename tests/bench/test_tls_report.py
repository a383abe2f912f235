"""What scanners say, judged: whatever is above informational is found, and only what means nothing here is excused."""

from __future__ import annotations

import json

import pytest

from bench.processes import BenchError
from bench.tls_report import ONLY_ON_THE_WEB, judge_sslscan, judge_testssl

CLEAN = """<document><ssltest>
<protocol type="tls" version="1.2" enabled="0" /><protocol type="tls" version="1.3" enabled="1" />
<renegotiation supported="0" secure="0" /><heartbleed sslversion="TLSv1.3" vulnerable="0" />
<cipher sslversion="TLSv1.3" bits="256" cipher="TLS_AES_256_GCM_SHA384" strength="acceptable" />
<group sslversion="TLSv1.3" bits="128" name="x25519" />
<certificates><certificate><signature-algorithm>ecdsa-with-SHA256</signature-algorithm>
<pk error="false" type="EC" bits="128" /><self-signed>false</self-signed><expired>false</expired>
</certificate></certificates></ssltest></document>"""


def test_a_clean_report_has_no_findings() -> None:
    assert judge_sslscan(CLEAN) == []


@pytest.mark.parametrize(
    ("was", "becomes", "what"),
    [
        ('version="1.2" enabled="0"', 'version="1.2" enabled="1"', "protocol"),
        ('<renegotiation supported="0"', '<renegotiation supported="1"', "renegotiation"),
        ('vulnerable="0"', 'vulnerable="1"', "heartbleed"),
        ("<certificates>", '<compression supported="1" /><certificates>', "compression"),
        ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_CCM_8_SHA256", "cipher"),
        ('strength="acceptable"', 'strength="weak"', "cipher"),
        ('bits="128" name="x25519"', 'bits="80" name="secp160r1"', "group"),
        ('type="EC" bits="128"', 'type="RSA" bits="80"', "pk"),
        ("ecdsa-with-SHA256", "sha1WithRSAEncryption", "signature-algorithm"),
        ("<expired>false", "<expired>true", "expired"),
        ("<self-signed>false", "<self-signed>true", "self-signed"),
    ],
)
def test_sslscan_finds_it(was: str, becomes: str, what: str) -> None:
    assert was in CLEAN
    assert [finding.what for finding in judge_sslscan(CLEAN.replace(was, becomes))] == [what]


def told(**findings: str) -> bytes:
    seen = {"TLS1_3": "OK"} | findings
    return json.dumps([{"id": each, "severity": seen[each], "finding": "why", "ip": "x"} for each in seen]).encode()


def test_testssl_is_believed_but_for_what_is_excused_by_name() -> None:
    harmless = told(TLS1_2="INFO", heartbleed="OK", service="DEBUG")
    assert judge_testssl(harmless) == []
    found = judge_testssl(told(BREACH="MEDIUM", scan="WARN", **dict.fromkeys(ONLY_ON_THE_WEB, "HIGH")))
    assert [finding.what for finding in found if not finding.excused] == ["BREACH", "scan"]
    assert {finding.what for finding in found if finding.excused} == set(ONLY_ON_THE_WEB)
    assert all(str(finding) for finding in found)


def test_a_scan_that_has_not_seen_the_listener_is_no_clean_one() -> None:
    with pytest.raises(BenchError):
        judge_testssl(told(TLS1_3="INFO"))
    with pytest.raises(BenchError):
        judge_sslscan(CLEAN.replace('version="1.3" enabled="1"', 'version="1.3" enabled="0"'))
