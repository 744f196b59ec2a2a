# ruff: noqa: SIM300 - expected == actual
"""deploy/prometheus: the rules are valid, each alert is raised when it should be, and all that they read exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

from tests.support.documents import ROOT
from tests.support.promtool import IS_MISSING, MISSING, RULES, metrics_in, promtool, samples_of
from tests.unit.test_metrics import complete_metrics

CASES: Final = Path(__file__).with_name("alerts_test.yml")
ALERTS: Final = re.findall(r"^ +- alert: (\w+)$", RULES.read_text(encoding="utf-8"), re.MULTILINE)


def test_all_metrics_that_the_rules_read_exist() -> None:
    used = metrics_in(RULES.read_text(encoding="utf-8"))

    assert 10 < len(used)
    assert set() == used - samples_of(complete_metrics().registry.collect())


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_is_shown_raised_and_not_raised_and_is_in_the_operations_page(alert: str) -> None:
    cases = CASES.read_text(encoding="utf-8")

    assert f"- alertname: {alert}\n" in cases
    assert f"alertname: {alert}, eval_time: 12m, exp_alerts: []" in cases
    assert f"| `{alert}` |" in (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


@pytest.mark.skipif(IS_MISSING, reason=MISSING)
def test_promtool_accepts_rules_and_configuration() -> None:
    assert f"SUCCESS: {len(ALERTS) + 4} rules found" in promtool("check", "rules", RULES)
    promtool("check", "config", "--syntax-only", RULES.with_name("prometheus.yml"))


@pytest.mark.skipif(IS_MISSING, reason=MISSING)
def test_each_alert_is_raised_in_time_and_not_before() -> None:
    assert "SUCCESS" in promtool("test", "rules", CASES)
