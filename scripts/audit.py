"""Check the pinned packages for known vulnerabilities: `scripts/audit.py`.

pip-audit asks the advisory source; what does not concern this project is allowed, with a reason, in
`scripts/advisories.toml`. Where no source can be reached this says so and is no failure; nothing is
ever taken for audited that was not.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PINNED, ALLOWED = HERE / "constraints.txt", HERE / "advisories.toml"
KEPT = timedelta(days=180)  # before somebody must look at an exception again
PATIENCE = 300  # seconds


def main() -> int:
    """Audit, print, and return the exit status."""
    allowed = tomllib.loads(ALLOWED.read_text()).get("allowed", [])
    status, lines = verdict(asked(), allowed, date.today())
    print(*lines, sep="\n")
    return status


def asked() -> list[dict[str, Any]]:
    """Return what pip-audit found of each package; nothing where it could not ask."""
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(PINNED), *options]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return []
    return found


def verdict(
    packages: Sequence[Mapping[str, Any]], allowed: Sequence[Mapping[str, Any]], today: date
) -> tuple[int, list[str]]:
    """Return the exit status and what to print.

    Parameters
    ----------
    packages : sequence of mapping
        As pip-audit gives them: ``name``, ``version`` and ``vulns``, or ``skip_reason``.
    allowed : sequence of mapping
        The exceptions: ``id``, ``reason`` and the ``date`` when somebody looked at it.
    today : date
    """
    audited = [package for package in packages if "skip_reason" not in package]
    if not audited:
        return 0, ["audit SKIPPED: no advisory source can be reached; nothing was audited"]
    fresh = {one["id"]: one for one in allowed if today - one["date"] <= KEPT}
    problems = [
        f"{one['id']} was last reviewed on {one['date']}: review it again"
        for one in allowed
        if one["id"] not in fresh
    ]
    for package in audited:
        for found in package["vulns"]:
            if not {found["id"], *found.get("aliases", ())} & fresh.keys():
                cure = ", ".join(found.get("fix_versions", ())) or "none yet"
                name = f"{package['name']} {package['version']}"
                problems.append(f"{name}: {found['id']}, fixed in {cure}")
    left = len(packages) - len(audited)
    count = f"audit: {len(audited)} packages, {left} that the source does not know"
    return (1 if problems else 0), [*problems, f"{count}, {len(problems)} problems"]


if __name__ == "__main__":
    sys.exit(main())
