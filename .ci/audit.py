"""Says what pip-audit has found. Status: 0 nothing, 1 vulnerabilities, 3 it could not look everything up.

pip-audit itself ends with 0 if the index knows nothing of a package, as an index between often does.
"""

import json
import sys
from pathlib import Path

FOUND = 1
NOT_KNOWN = 3


def main(report: Path, errors: Path) -> int:
    """`report` is what pip-audit printed (JSON), `errors` what it printed to stderr."""
    try:
        packages = json.loads(report.read_text(encoding="utf-8"))["dependencies"]
    except ValueError:
        lines = errors.read_text(encoding="utf-8").splitlines() or ["pip-audit said nothing"]
        print(f"audit: nothing could be looked up: {lines[-1]}")
        return NOT_KNOWN
    skipped = [package for package in packages if "skip_reason" in package]
    found = [(package, vuln) for package in packages for vuln in package.get("vulns", [])]
    for package, vuln in found:
        fixed = ", ".join(vuln["fix_versions"]) or "no version"
        print(f"audit: {package['name']} {package['version']}: {vuln['id']}, fixed in {fixed}")
    if skipped or not packages:
        reason = f", as {skipped[0]['skip_reason']}" if skipped else ""
        print(f"audit: {len(skipped)} of {len(packages)} packages could not be looked up{reason}")
    elif not found:
        print(f"audit: no known vulnerability in {len(packages)} packages")
    return FOUND if found else NOT_KNOWN if skipped or not packages else 0


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
