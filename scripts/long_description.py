"""The README as an index shows it: there is nothing there that its relative links could lead to."""

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

RELATIVE = r"\[([^\]]*)\]\((?!https?:|#)[^)\s]*\)"


def without_relative(text: str) -> str:
    """Return Markdown with the texts of its relative links, and of its pictures what they show."""
    return re.sub(RELATIVE, r"\1", re.sub("!" + RELATIVE, r"*\1*", text))


class LongDescription(MetadataHookInterface):
    """Give hatchling the README without what works in a checkout alone."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in the field that pyproject.toml leaves to this."""
        text = without_relative(Path(self.root, "README.md").read_text(encoding="utf-8"))
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
