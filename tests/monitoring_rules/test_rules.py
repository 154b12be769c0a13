"""Rules that parse, alerts that ring when they should and only then, and a page for each."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

HERE = Path(__file__).parent
FILES = sorted(path.name for path in HERE.glob("*.yaml"))
RENAMED = {  # what programs say of themselves, and how a Prometheus that overrides honorLabels stores it
    'job="monitor"': 'exported_job="monitor", job="monitoring/pushgateway"',
    'endpoint="/predict"': 'exported_endpoint="/predict", endpoint="http"',
    "created{namespace=": 'created{namespace="monitoring", exported_namespace=',
}


@pytest.fixture
def alerts(spec):
    return [rule for group in spec["groups"] for rule in group["rules"] if "alert" in rule]


def test_the_rules_parse(promtool):
    """Promtool finds no error and no rule twice."""
    assert "rules found" in promtool("check", "rules", "rules.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("honoured", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_the_rules_do_what_their_tests_say(promtool, tmp_path, name, honoured):
    """Each file's series lead to the alerts and numbers that it expects, honorLabels heeded or not."""
    text = (HERE / name).read_text()
    for own, renamed in () if honoured else RENAMED.items():
        text = text.replace(own, renamed)
    (tmp_path / name).write_text(text)
    promtool("test", "rules", name)


@pytest.mark.sample
def test_every_alert_is_tested_to_fire_and_to_be_silent(alerts):
    """A new alert comes with both tests."""
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
def test_every_alert_says_how_grave_it_is_what_it_saw_and_what_to_do(repository, alerts):
    """One label, a summary with values, and a page that exists and speaks of the alert."""
    for alert in alerts:
        assert alert["labels"].keys() == {"severity"}
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert "{{ $" in alert["annotations"]["summary"]
        page = repository / alert["annotations"]["runbook"]
        assert alert["alert"] in page.read_text(), page
