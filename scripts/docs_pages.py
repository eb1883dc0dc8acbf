"""Write the pages as the site has them, into build/docs; scripts/docs calls this.

A page names in a comment, which other readers of Markdown do not show, what is put in here:
``<!-- include data/FORMAT.md -->``, ``<!-- commands -->``, ``<!-- api -->``.
"""

import re
import shutil
from pathlib import Path
from posixpath import normpath, relpath

import docs_reference

ROOT = Path(__file__).parents[1]
OUT = ROOT / "build" / "docs"
# Which page shows what lies outside docs/, or is no Markdown.
SHOWN_BY = {
    "README.md": "index.md",
    "data/FORMAT.md": "format.md",
    "scripts/BENCHMARKS.md": "benchmarks.md",
    "scripts/RELIABILITY.md": "reliability.md",
    "docs/notebook.ipynb": "notebook.md",
}


def main() -> None:
    """Write all pages, and copy their pictures."""
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    for path in sorted((ROOT / "docs").iterdir()):
        if path.suffix == ".md":
            (OUT / path.name).write_text(page(path), encoding="utf-8")
        elif path.suffix == ".ipynb":
            write_notebook(path)
        else:
            shutil.copy(path, OUT)
    shutil.copy(Path(__file__).with_name("docs.css"), OUT)
    settings = Path(__file__).with_name("zensical.toml").read_text(encoding="utf-8")
    for name in re.findall(r'"([\w-]+\.md)"', settings):
        if not (OUT / name).exists():
            settings = re.sub(f'"{name}",? ?', "", settings)  # what is not there yet
    (OUT.parent / "zensical.toml").write_text(settings, encoding="utf-8")


def page(path: Path) -> str:
    """Return a page with all that its comments name."""
    text = linked(path)
    text = re.sub(
        r"`[^`\n]+`", lambda code: code[0].replace("\\|", "|"), text
    )  # as GitHub needs it
    for name in re.findall(r"<!-- include (\S+) -->", text):
        included = linked(ROOT / name)
        if name == "README.md":
            return included  # which has the title, too
        text = text.replace(f"<!-- include {name} -->", included.partition("\n")[2])
    for name, lines in (("commands", docs_reference.commands), ("api", docs_reference.interface)):
        if f"<!-- {name} -->" in text:
            text = text.replace(f"<!-- {name} -->", "\n".join(lines()))
    return text


def write_notebook(path: Path) -> None:
    """Write a notebook as a page, and its pictures beside it."""
    from nbconvert import MarkdownExporter  # type: ignore[import-not-found, unused-ignore]

    text, others = MarkdownExporter().from_filename(str(path))
    (OUT / f"{path.stem}.md").write_text(text, encoding="utf-8")
    for name, content in others["outputs"].items():
        (OUT / name).write_bytes(content)


# Links


def linked(path: Path) -> str:
    """Return a text whose links are those of the site; what it does not show is no link there."""
    folder = path.parent.relative_to(ROOT).as_posix()

    def link(found: re.Match[str]) -> str:
        to = found["to"]
        if "://" in to or not to:
            return found[0]
        there = normpath(f"{folder}/{to}")
        inside = SHOWN_BY.get(there) or relpath(there, "docs")
        if inside.startswith("..") or not (ROOT / there).exists():
            return found["label"]
        return f"{found['bang']}[{found['label']}]({inside}{found['anchor'] or ''})"

    pattern = r"(?P<bang>!?)\[(?P<label>[^]]*)\]\((?P<to>[^)\s#]*)(?P<anchor>#[^)\s]*)?\)"
    parts = re.split(r"(?ms)(^```.*?^```$)", path.read_text(encoding="utf-8"))
    return "".join(one if one.startswith("```") else re.sub(pattern, link, one) for one in parts)


if __name__ == "__main__":
    main()
