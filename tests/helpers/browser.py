"""Pages as a browser has them."""

import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

from tests.helpers.process import execute

CHROMIUM = shutil.which("chromium")

# What is asked of a page that is shown in a frame; its own policy lets it run nothing.
FRAME = """<!doctype html><meta name="color-scheme" content="light dark">
<body><iframe id="frame" width="{width}" height="5000" style="border: 0" srcdoc="{page}"></iframe>
<script>window.onload = () => {{
  const inside = document.getElementById("frame").contentDocument;
  const images = [...inside.images], drawings = [...inside.querySelectorAll("svg")];
  document.body.textContent = "FOUND" + JSON.stringify({{
    images: images.map(one => Math.min(one.naturalWidth, one.clientWidth)),
    drawings: drawings.map(one => one.getBBox().width * one.querySelectorAll("path").length),
    scripts: inside.scripts.length,
    wide: inside.documentElement.scrollWidth,
    ink: inside.defaultView.getComputedStyle(inside.body).color,
    headings: [...inside.querySelectorAll("h3")].map(one => one.textContent),
  }}) + "END";
}}</script>"""


def chromium(page: Path, *options: str) -> tuple[str, list[str]]:
    """Return the page as the browser has it in the end, and the lines of its console."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-sync", "--enable-logging=stderr"]
    command += ["--v=0", f"--user-data-dir={page}.profile", *options, "--dump-dom", page.as_uri()]
    done = execute(command, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def seen(page: Path, width: int, dark: bool = False) -> dict[str, Any]:
    """Return what a browser sees of a page so many pixels wide."""
    frame = page.with_name("frame.html")
    frame.write_text(FRAME.format(width=width, page=html.escape(page.read_text())))
    dom, _ = chromium(frame, f"--blink-settings=preferredColorScheme={int(not dark)}")
    found = re.search("FOUND(.*)END", dom, re.DOTALL)
    assert found, dom
    answer: dict[str, Any] = json.loads(html.unescape(found[1]))
    return answer
