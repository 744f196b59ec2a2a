"""promtool, Prometheus's own checker, and the names of metrics in its expressions."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from tests.support.documents import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prometheus_client import Metric

IS_MISSING: Final = shutil.which("promtool") is None
MISSING: Final = "promtool is not installed (apt install prometheus)"
RULES: Final = ROOT / "deploy" / "prometheus" / "alerts.yml"
_in_expressions: Final = re.compile(r"\bingestd_[a-z_]+")


def promtool(*arguments: str | Path, given: bytes = b"") -> str:
    """Its standard output; it has to find nothing wrong."""
    finished = subprocess.run(["promtool", *arguments], input=given, capture_output=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stdout.decode() + finished.stderr.decode()
    return finished.stdout.decode() + finished.stderr.decode()


def metrics_in(expressions: str) -> set[str]:
    return set(_in_expressions.findall(expressions))


def samples_of(families: Iterable[Metric]) -> set[str]:
    """The names of the samples, as expressions use them."""
    return {sample.name for family in families for sample in family.samples}
