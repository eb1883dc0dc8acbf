"""The audit of pinned packages fails, passes and is skipped when it should."""

import runpy
import sys
import tomllib
from datetime import date
from typing import Any

import pytest

from tests.helpers.packages import ROOT
from tests.helpers.process import execute

SCRIPTS = ROOT / "scripts"
audit: Any = runpy.run_path(str(SCRIPTS / "audit.py"))
TODAY = date(2026, 11, 25)
GOOD: dict[str, Any] = {"name": "numpy", "version": "2.0", "vulns": []}
UNKNOWN: dict[str, Any] = {"name": "torch", "version": "2.0+cpu", "skip_reason": "not found"}
FOUND = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.1"]}
BAD: dict[str, Any] = {"name": "pillow", "version": "2.0", "vulns": [FOUND]}


def allowed(name: str, day: date = TODAY) -> dict[str, Any]:
    """Return an exception."""
    return {"id": name, "reason": "does not concern us", "date": day}


@pytest.mark.parametrize("packages", [[], [UNKNOWN]])
def test_what_was_not_audited_is_not_called_audited(packages: list[dict[str, Any]]) -> None:
    """Where the source answers nothing, the audit is skipped and says so."""
    status, (line,) = audit["verdict"](packages, [], TODAY)
    assert status == 0
    assert line.startswith("audit SKIPPED")


def test_a_vulnerability_fails_the_audit() -> None:
    """It is named, with the version that mends it."""
    status, lines = audit["verdict"]([GOOD, BAD, UNKNOWN], [], TODAY)
    assert status == 1
    assert lines[0] == "pillow 2.0: PYSEC-1, fixed in 2.1"
    assert lines[-1] == "audit: 2 packages, 1 that the source does not know, 1 problems"


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-1"])
def test_an_exception_lets_it_pass(name: str) -> None:
    """Under any of its names; after half a year somebody looks at it again."""
    assert audit["verdict"]([GOOD, BAD], [allowed(name)], TODAY)[0] == 0
    status, lines = audit["verdict"]([BAD], [allowed(name, date(2026, 1, 1))], TODAY)
    assert status == 1
    assert lines[0].startswith(f"{name} was last reviewed on 2026-01-01")


def test_every_exception_has_a_reason_and_a_date() -> None:
    """The list as it stands can be read."""
    for one in tomllib.loads(audit["ALLOWED"].read_text())["allowed"]:
        assert one["reason"]
        assert isinstance(one["date"], date)


@pytest.mark.long
def test_the_audit_runs() -> None:
    """pip-audit is installed and asked; whatever it finds, there is an answer of a line."""
    command = [sys.executable, str(SCRIPTS / "audit.py")]
    done = execute(command)
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1].startswith("audit")
