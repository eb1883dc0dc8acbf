"""Pages as a browser has them."""

import shutil
from pathlib import Path

from tests.helpers.process import execute

CHROMIUM = shutil.which("chromium")


def chromium(page: Path, *options: str) -> tuple[str, list[str]]:
    """Return the page as the browser has it in the end, and the lines of its console."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-sync", "--enable-logging=stderr"]
    command += ["--v=0", f"--user-data-dir={page}.profile", *options, "--dump-dom", page.as_uri()]
    done = execute(command, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]
