"""docker-compose.yml, taken apart as far as tests need it: the text of each service, and its settings of one line."""

from __future__ import annotations

import re
from typing import Final

from tests.support.documents import ROOT

TEXT: Final = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
_services: Final = re.compile(r"^  ([a-z-]+):\n((?:(?:    .*)?\n)+)", re.MULTILINE)


def services() -> dict[str, str]:
    """Name to text, moved to the left, without comments."""
    inside = TEXT.partition("\nservices:\n")[2].partition("\nvolumes:\n")[0]
    lines = "\n".join(line for line in inside.splitlines() if not line.lstrip().startswith("#"))
    found = _services.finditer(f"{lines}\n")
    return {service[1]: re.sub("^    ", "", service[2], flags=re.MULTILINE) for service in found}


def values(service: str) -> dict[str, str]:
    """The settings of a service that have their value in the same line."""
    return dict(re.findall(r"^([a-z_]+): +(\S.*)$", services()[service], re.MULTILINE))


def environment(service: str) -> dict[str, str]:
    """What Compose itself sets, not what `.env` does."""
    found = re.search(r"^environment:\n((?:  .*\n)+)", services()[service], re.MULTILINE)
    return dict(re.findall(r"^  ([A-Z0-9_]+): +(\S.*)$", found[1], re.MULTILINE)) if found else {}
