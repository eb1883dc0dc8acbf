"""The public interface as text, from what the sources declare.

``python tests/package/api.py`` writes ``api.txt`` anew, for a change that is meant.
"""

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path
from textwrap import dedent, indent
from typing import Any

import pixelprep

HELD = Path(__file__).with_name("api.txt")

# What public functions take and give back, and README tells of, without being exported.
REACHED = [
    "dataset.epoch.BatchOptions",
    "dataset.feed_options.FeedOptions",
    "dataset.batches.Batches.__len__",
    "dataset.batches.Batches.resume",
    "dataset.batches.BatchIterator.state",
    "sources.Options",
    "sources.Provenance",
    "sources.Source",
]


def named(name: str) -> Any:
    """Return what a dotted name below the package stands for; of a class as it is written in it."""
    first, *rest = name.split(".")
    exported = first in pixelprep.__all__
    found = getattr(pixelprep, first) if exported else import_module(f"pixelprep.{first}")
    if hasattr(found, "__path__") and rest and not hasattr(found, rest[0]):
        found = import_module(f"pixelprep.{first}.{rest.pop(0)}")
    for part in rest:
        look_up = getattr if inspect.ismodule(found) else inspect.getattr_static
        found = look_up(found, part)
    return found


def exported() -> list[str]:
    """List the names that the package exports; of a module, those that it exports."""
    names = []
    for name in pixelprep.__all__:
        inside = getattr(getattr(pixelprep, name), "__all__", None)
        names += [name] if inside is None else [f"{name}.{member}" for member in inside]
    return names


def function_of(name: str) -> Any:
    """Return the function behind a name, whatever kind of method or property it is."""
    found = named(name)
    inside = (getattr(found, how, None) for how in ("fget", "func", "__func__"))
    return next(filter(None, inside), found)


def interface() -> str:
    """Return all that is promised: names, kinds, defaults and annotations."""
    names = [*exported(), *REACHED]
    return "\n".join(f"# pixelprep.{name}\n{declared(name)}\n" for name in names)


def declared(name: str) -> str:
    """Return how a name is declared: in its source, or as a function that says so itself."""
    found = named(name)
    if "__signature__" in getattr(found, "__dict__", {}):
        return broken(f"def {name}{inspect.signature(found)}")
    return declaration(tree(name))


def tree(name: str) -> ast.stmt:
    """Return the source of a public name, parsed."""
    return ast.parse(dedent(inspect.getsource(function_of(name)))).body[0]


def declaration(node: ast.stmt) -> str:
    """Return a class with its members, a function or a field; empty for what is private."""
    match node:
        case ast.ClassDef():
            members = "\n".join(filter(None, map(declaration, node.body)))
            return f"{head(node)}\n{indent(members, '    ')}".rstrip()
        case ast.FunctionDef() if is_public(node.name):
            return head(node)
        case ast.AnnAssign(target=ast.Name(name)) if is_public(name):
            return ast.unparse(node)
    return ""


def head(node: ast.ClassDef | ast.FunctionDef) -> str:
    """Return a declaration without what is in it."""
    node.body = []
    return "\n".join(broken(line.removesuffix(":")) for line in ast.unparse(node).splitlines())


def broken(line: str) -> str:
    """Return a declaration with a parameter a line where it is long."""
    return re.sub(r"(\(|,) ?(?=[*/]|\w+:)", r"\1\n    ", line) if len(line) > 100 else line


def is_public(name: str) -> bool:
    """Return whether a member is for callers: no underscore, or one of Python's own protocols."""
    return not name.startswith("_") or name.endswith("__")


if __name__ == "__main__":
    HELD.write_text(interface())
