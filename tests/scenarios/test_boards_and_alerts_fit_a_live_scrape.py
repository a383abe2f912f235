"""What Prometheus scrapes is sound, and every expression of the boards and alerts finds what it asks for there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from meshproxy.telemetry.metrics import Metrics
from tests.scenarios.actors import dial, read_to_end
from tests.scenarios.collecting import Collector, tracing
from tests.scenarios.http_actors import Caller, Origin
from tests.scenarios.stage import Stage, inbound, outbound, poll

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLES = Path(__file__).parents[2] / "examples"
ALERTS = EXAMPLES / "prometheus/alerts.yml"
BOARDS = sorted((EXAMPLES / "grafana").glob("*.json"))

FROM_PROMETHEUS = {"instance", "job", "le"}
MADE_OF_OURS = ("_bucket", "_count", "_sum", "_total")
VARIABLES = {"$__rate_interval": "5m", "$__range": "1h", "$instance": ".*", "$listener": ".*"}

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (prometheus) is not installed")


def promtool(*arguments: str | Path, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *map(str, arguments)], input=said, capture_output=True, text=True, timeout=60, check=False
    )


def scrapes(stage: Stage) -> tuple[str, str]:
    """What two sidecars tell after a busy minute: granted, denied, failed, traced, recorded."""
    origin, collector = stage.keep(Origin()), stage.keep(Collector())
    stage.write(
        "web.allow.toml",
        '[[allow]]\nname = "web-calls"\nfrom = "/web"\npaths = "/open/**"\nexpires = 2999-01-01\n',
    )
    watching = tracing(collector.address) + f'[audit]\nfile = "{stage.workspace}/audit.jsonl"\n'
    served = inbound(forward=origin.address, protocol="http", more='audit = "all"')
    api = stage.sidecar("api", watching + served)
    web = stage.sidecar(
        "web", tracing(collector.address) + outbound(endpoints=["127.0.0.1:9", api.address("api")], protocol="http")
    )
    with Caller(dial(web.address("to-api"))) as caller:
        assert [caller.ask("GET", path).status for path in ("/open/a", "/open/b", "/shut")] == [200, 200, 403]
    with dial(api.address("api")) as stranger:
        stranger.sendall(b"GET / HTTP/1.0\r\n\r\n")
        read_to_end(stranger)
    poll(lambda: api.metric("meshproxy_trace_spans_total", result="sent") == 5, "api's spans sent")
    poll(lambda: web.metric("meshproxy_trace_spans_total", result="sent") == 7, "web's spans sent")
    return api.get("/metrics").body.decode(), web.get("/metrics").body.decode()


def known(*texts: str) -> dict[str, set[str]]:
    """The label names of each family: as scraped, or where nothing was counted yet, as it will be."""
    found = {family.name: set(family.label_names) for family in Metrics().families}
    for text in texts:
        for family in text_string_to_metric_families(text):
            assert family.name in found, f"{family.name} is scraped but not declared"
            for sample in family.samples:
                assert set(sample.labels) - {"le"} == found[family.name]
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for line in ALERTS.read_text().splitlines():
        if (found := re.fullmatch(r"\s+expr: (.*)", line)) is not None:
            yield ALERTS.name, found[1]
    for board in BOARDS:
        yield from ((board.name, expr) for expr in _exprs(json.loads(board.read_text())))


def _exprs(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        for key, value in part.items():
            if key == "expr":
                yield value
            elif key == "definition":
                yield re.sub(r"label_values\((.*), \w+\)", r"\1", value)
            else:
                yield from _exprs(value)
    elif isinstance(part, list):
        for each in part:
            yield from _exprs(each)


def filled_in(expression: str) -> str:
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def family_of(name: str) -> list[str]:
    """The families a name in an expression may mean."""
    return [name, *(name.removesuffix(end) for end in MADE_OF_OURS if name.endswith(end))]


def test_every_expression_finds_what_it_asks_for(stage: Stage) -> None:
    families = known(*scrapes(stage))
    asked = list(expressions())
    assert len(asked) > 80
    for where, expression in asked:
        written = filled_in(expression)
        assert "$" not in written, (where, expression)
        labels: set[str] = set()
        for name, selector in re.findall(r"\b(meshproxy_\w+)(?:\{([^}]*)\})?", written):
            (told,) = [families[each] for each in family_of(name) if each in families]
            labels |= told
            selected = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', '""', selector)))
            assert selected <= told | FROM_PROMETHEUS, (where, expression)
        assert labels or "meshproxy_" in written, (where, expression)
        for grouped in re.findall(r"\bby \(([^)]*)\)", written):
            assert {each.strip() for each in grouped.split(",")} <= labels | FROM_PROMETHEUS, (where, expression)


@needs_promtool
def test_prometheus_finds_no_fault_in_what_it_scrapes(stage: Stage) -> None:
    for text in scrapes(stage):
        judged = promtool("check", "metrics", said=text)
        assert (judged.returncode, judged.stderr) == (0, ""), judged.stderr


@needs_promtool
def test_alerts_do_as_they_are_held_to() -> None:
    checked = promtool("check", "rules", ALERTS)
    assert checked.returncode == 0, checked.stderr
    tried = promtool("test", "rules", ALERTS.with_name("alerts_test.yml"))
    assert tried.returncode == 0, tried.stdout + tried.stderr


def test_every_alert_is_held_to_something_and_says_what_to_do() -> None:
    rules = re.split(r"\n\s+- alert: ", ALERTS.read_text())[1:]
    names = [rule.split("\n")[0] for rule in rules]
    held = ALERTS.with_name("alerts_test.yml").read_text()
    for name, rule in zip(names, rules, strict=True):
        assert f"alertname: {name}\n        exp_alerts:\n" in held, name  # it fires
        assert f"alertname: {name}\n        exp_alerts: []" in held, name  # and it does not
        for part in ("for: ", "keep_firing_for: ", "severity: ", "summary: ", "action: "):
            assert part in rule, (name, part)


@needs_promtool
def test_every_expression_of_a_board_is_one(tmp_path: Path) -> None:
    """promtool reads rules, so each becomes one."""
    rules = tmp_path / "rules.yml"
    lines = ["groups:", "  - name: boards", "    rules:"]
    for number, (_, expression) in enumerate(expressions()):
        lines += [f"      - record: board:{number}", f"        expr: {json.dumps(filled_in(expression))}"]
    rules.write_text("\n".join(lines))
    checked = promtool("check", "rules", rules)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.stem)
def test_a_board_can_be_imported_anywhere(board: Path) -> None:
    """No data source is named: Grafana asks for one; panels do not overlap, and each says what it shows."""
    said = json.loads(board.read_text())
    assert said["schemaVersion"] >= 38
    assert said["uid"] is None
    assert said["templating"]["list"][0]["type"] == "datasource"
    sources = set(re.findall(r'"uid": (\S+?),?\n', board.read_text()))
    assert sources == {"null", '"${datasource}"'}
    assert len({panel["id"] for panel in said["panels"]}) == len(said["panels"])
    taken: set[tuple[int, int]] = set()
    for panel in said["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["description"], panel["title"]
            assert panel["fieldConfig"]["defaults"].get("unit") or panel["type"] == "heatmap", panel["title"]
    kinds = {panel["type"] for panel in said["panels"]}
    assert {"stat", "timeseries"} <= kinds
    assert "heatmap" in kinds or board.stem != "traffic"
