"""docs/metrics.md promises what the code shows, and alerts and dashboard ask for nothing else."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import processor.metrics
import producer.metrics
from processor.lag import Lag
from runtime.settings.setting import ROOT
from tests.support import documents

MONITORING = ROOT / "docs" / "monitoring"
ALERTS = MONITORING / "alerts.yml"

# What a query asks for, instead of the name of a histogram.
OF_HISTOGRAM = ("_bucket", "_sum", "_count")


def registries() -> list[CollectorRegistry]:
    """Return the metrics of both services as they are when there is something to show."""
    of_processor = processor.metrics.Metrics("client_tickets")
    of_processor.lag({0: Lag(1, 2)})
    return [of_processor.registry, producer.metrics.Metrics().registry]


def shown() -> list[tuple[str, str, str, str]]:
    """Return name, type, labels and meaning of each metric."""
    found = []
    for registry in registries():
        for family in registry.collect():
            name = f"{family.name}_total" if family.type == "counter" else family.name
            labels = [label for label in family.samples[0].labels if label != "le"]
            found.append((name, family.type, ", ".join(labels), family.documentation))
    return found


def expressions() -> dict[str, str]:
    """Return the queries of the alerts and of the dashboard by their titles; those of the dashboard as they are run."""
    text = ALERTS.read_text(encoding="utf-8")
    alerts = re.findall(r"- alert: (\w+)\n +expr: (?:>-\n)?(.*?)\n +for:", text, re.DOTALL)
    found = {name: " ".join(expression.split()) for name, expression in alerts}
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"].replace("$__rate_interval", "1m")
    return found


def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((MONITORING / "grafana.json").read_text(encoding="utf-8"))
    return loaded


def test_the_document_lists_every_metric_with_its_type_its_labels_and_its_meaning() -> None:
    told = documents.table(documents.section(documents.read("docs/metrics.md"), "Metrics"))
    assert [tuple(row) for row in told] == shown()


def test_the_values_of_labels_that_are_ours_are_named() -> None:
    words = documents.inline_code(documents.section(documents.read("docs/metrics.md"), "Metrics"))
    samples = [sample for registry in registries() for family in registry.collect() for sample in family.samples]
    results = {sample.labels["result"] for sample in samples if "result" in sample.labels}
    assert results == {"published", "failed", "stopped"}
    assert results | {processor.metrics.OTHER} <= set(words)
    fields = {sample.labels["field"] for sample in samples if "field" in sample.labels}
    assert fields == {"ticket_id", "client_id", "created_at", "request", "request_type", "priority", "other"}


def test_names_follow_the_conventions_of_prometheus() -> None:
    for name, kind, _, meaning in shown():
        assert re.fullmatch(r"client_tickets_[a-z]+(_[a-z]+)*", name), name
        assert name.endswith("_total") is (kind == "counter"), name
        assert meaning.endswith("."), name


def test_how_long_no_progress_is_healthy_is_named() -> None:
    section = " ".join(documents.section(documents.read("docs/metrics.md"), "Health").split())
    assert f"in the last {producer.metrics.HEALTHY_FOR_S:g} seconds (or since" in section
    assert f"in the last {processor.metrics.HEALTHY_FOR_S:g} seconds." in section


def test_the_three_alerts_are_those_of_the_document() -> None:
    rows = documents.table(documents.section(documents.read("docs/metrics.md"), "Prometheus, alerts and Grafana"))
    alerts = [row[0] for row in rows if row[0].startswith("ClientTickets")]
    assert alerts == re.findall(r"- alert: (\w+)", ALERTS.read_text(encoding="utf-8"))
    assert len(alerts) == 3


def test_alerts_and_dashboard_ask_only_for_metrics_and_labels_that_are_promised() -> None:
    promised = {name: [*labels.split(", "), "job", "instance"] for name, _, labels, _ in shown()}
    histograms = {f"{name}{part}": labels for name, labels in promised.items() for part in OF_HISTOGRAM}
    asked = expressions()
    assert len(asked) > 15
    for title, expression in asked.items():
        names = re.findall(r"client_tickets_\w+", expression)
        assert names, title
        for name in names:
            assert name in promised or name in histograms, title
        allowed = {label for name in names for label in (promised.get(name) or [*histograms[name], "le"])}
        for group in re.findall(r"\bby \(([^)]*)\)", expression):
            assert set(group.split(", ")) <= allowed, title
    # What is promised is also shown.
    told = " ".join(asked.values())
    assert [name for name in promised if not re.search(rf"\b{name}(_bucket)?\b", told)] == []


def test_the_dashboard_can_be_imported_with_any_data_source() -> None:
    content = dashboard()
    (variable,) = content["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    panels = content["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 8
    sources = [part["datasource"] for panel in panels for part in (panel, *panel["targets"])]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    # Side by side on 24 columns, none on top of another one.
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in panels)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23


@pytest.fixture
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("this machine lacks promtool")
    return found


def checked(promtool: str, *arguments: str | Path, text: str = "") -> None:
    done = subprocess.run([promtool, *arguments], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning" not in done.stderr


def test_prometheus_takes_configuration_rules_and_every_query_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    checked(promtool, "check", "config", MONITORING / "prometheus.yml")
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(expressions().values())]
    # JSON is YAML.
    every = tmp_path / "every.yml"
    every.write_text(json.dumps({"groups": [{"name": "every", "rules": rules}]}), encoding="utf-8")
    checked(promtool, "check", "rules", every)


def test_prometheus_has_nothing_to_say_against_the_metrics(promtool: str) -> None:
    for registry in registries():
        checked(promtool, "check", "metrics", text=generate_latest(registry).decode())


# Series of a minute each, when the alerts are looked at, and which are on by then.
SUCCESS = 'client_tickets_last_success_timestamp_seconds{job="processor"}'
LAG = 'client_tickets_lag_messages{job="processor",topic="t",partition="%d"}'
READ = 'client_tickets_messages_read_total{job="processor"}'
REJECTED = 'client_tickets_rejected_total{job="processor",field="%s"}'
CASES = [
    ("success each minute", {SUCCESS: "0+60x120"}, "1h", []),
    ("no success after half an hour", {SUCCESS: "0+60x30 1800x90"}, "40m", []),
    ("no success for long", {SUCCESS: "0+60x30 1800x90"}, "50m", ["ClientTicketsNoSuccess"]),
    ("never a success", {SUCCESS: "0x120"}, "20m", ["ClientTicketsNoSuccess"]),
    ("a processor that is gone", {SUCCESS: "0+60x30 _x90"}, "50m", ["ClientTicketsNoSuccess"]),
    ("a lag that grows", {LAG % 0: "0+200x120", LAG % 1: "5x120"}, "1h", ["ClientTicketsLagGrows"]),
    ("a lag that goes up and down", {LAG % 0: "0 9000 0 9000 0 9000 " * 20}, "1h", []),
    ("a high lag that is worked off", {LAG % 0: "900000-200x120"}, "1h", []),
    ("few are no tickets", {READ: "0+1000x120", REJECTED % "priority": "0+30x120"}, "1h", []),
    (
        "many are no tickets, for two reasons",
        {READ: "0+1000x120", REJECTED % "priority": "0+30x120", REJECTED % "other": "0+30x120"},
        "1h",
        ["ClientTicketsRejectedShare"],
    ),
    ("nothing comes", {READ: "1000x120", REJECTED % "priority": "900x120"}, "1h", []),
]
LABELS = {
    "ClientTicketsNoSuccess": {"job": "processor", "severity": "critical"},
    "ClientTicketsLagGrows": {"job": "processor", "topic": "t", "severity": "warning"},
    "ClientTicketsRejectedShare": {"job": "processor", "severity": "warning"},
}


def test_the_alerts_are_on_when_they_should_be_and_off_else(promtool: str, tmp_path: Path) -> None:
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": series, "values": values.strip()} for series, values in given.items()],
            "alert_rule_test": [
                {
                    "alertname": alert,
                    "eval_time": when,
                    "exp_alerts": [{"exp_labels": labels}] if alert in on else [],
                }
                for alert, labels in LABELS.items()
            ],
        }
        for _, given, when, on in CASES
    ]
    # Of the texts only the labels are compared here.
    rules = re.sub(r"(?m)^ +annotations:\n(?: {10}.*\n)+", "", ALERTS.read_text(encoding="utf-8"))
    (tmp_path / "alerts.yml").write_text(rules, encoding="utf-8")
    (tmp_path / "tests.yml").write_text(json.dumps({"rule_files": ["alerts.yml"], "tests": tests}), encoding="utf-8")
    checked(promtool, "test", "rules", tmp_path / "tests.yml")
