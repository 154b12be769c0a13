"""The rules parse, the alerts fire when they should and only then, and each alert has a page."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

HERE = Path(__file__).parent
FILES = sorted(path.name for path in HERE.glob("*.yaml"))
RENAMED = {  # labels that programs set, and how a Prometheus that overrides honorLabels stores them
    'job="monitor"': 'exported_job="monitor", job="monitoring/pushgateway"',
    'endpoint="/predict"': 'exported_endpoint="/predict", endpoint="http"',
    "created{namespace=": 'created{namespace="monitoring", exported_namespace=',
}


@pytest.fixture
def alerts(spec):
    return [rule for group in spec["groups"] for rule in group["rules"] if "alert" in rule]


def test_the_rules_parse(promtool):
    """The rules have no error and no duplicate, according to promtool."""
    assert "rules found" in promtool("check", "rules", "rules.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("honoured", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_the_rules_pass_promtools_tests(promtool, tmp_path, name, honoured):
    """Each file's series lead to the alerts and numbers that it expects, with and without honorLabels."""
    text = (HERE / name).read_text()
    for own, renamed in () if honoured else RENAMED.items():
        text = text.replace(own, renamed)
    (tmp_path / name).write_text(text)
    promtool("test", "rules", name)


@pytest.mark.sample
def test_every_alert_is_tested_to_fire_and_to_be_silent(alerts):
    """Every alert has a test in which it fires and one in which it is silent."""
    cases = [
        case
        for name in FILES
        for test in YAML(typ="safe").load(HERE / name)["tests"]
        for case in test.get("alert_rule_test", [])
    ]
    names = {alert["alert"] for alert in alerts}
    assert {case["alertname"] for case in cases if case["exp_alerts"]} == names
    assert {case["alertname"] for case in cases if not case["exp_alerts"]} == names


@pytest.mark.docs
@pytest.mark.sample
def test_every_alert_has_severity_summary_and_runbook(repository, alerts):
    """Every alert has a severity, a summary with values, and a runbook that exists and mentions the alert."""
    for alert in alerts:
        assert alert["labels"].keys() == {"severity"}
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert "{{ $" in alert["annotations"]["summary"]
        page = repository / alert["annotations"]["runbook"]
        assert alert["alert"] in page.read_text(), page
