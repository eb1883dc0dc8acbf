"""The public interface is held: names, signatures, docstrings, examples and types."""

import ast
import doctest
import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, is_typeddict

import numpy as np
import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

import pixelprep
from tests.helpers.data import arrays
from tests.helpers.packages import ROOT, bare_home, done
from tests.helpers.process import execute
from tests.package.api import HELD, REACHED, exported, function_of, interface, named, tree

PACKAGE = Path(pixelprep.__file__).parent
CONSUMER = ROOT / "tests" / "package" / "consumer.py"


# Names and signatures


def test_public_signatures() -> None:
    """Every public name is there, and every function, class, method and field is declared, as
    `api.txt` has it.
    """
    again = "if this is meant, and CHANGELOG.md tells of it: python tests/package/api.py"
    assert interface().splitlines() == HELD.read_text().splitlines(), again
    assert set(pixelprep.__all__) <= set(dir(pixelprep))


# Docstrings


def members(name: str) -> list[str]:
    """Return a public name, and those of its own public methods and properties."""
    found = named(name)
    if not inspect.isclass(found):
        return [name]
    kinds = (property, cached_property, classmethod, staticmethod)
    own = {k: v for k, v in vars(found).items() if inspect.isfunction(v) or isinstance(v, kinds)}
    return [name, *(f"{name}.{member}" for member in own if not member.startswith("_"))]


DOCUMENTED = [
    member
    for name in [*exported(), *REACHED]
    for member in members(name)
    if not member.endswith("__")
]
IGNORED = {
    "ES01": "a summary that says all needs no second one",
    "EX01": "an example for every property would hide those that show how things are used",
    "SA01": "names in backticks in the text refer to others where it matters",
    "SS05": "a summary may name what there is, 'Images …', which is no verb",
    "PR08": "a description may begin with a range or a shape, '(H, W) …', '0 ≤ …'",
}


@pytest.mark.parametrize("name", DOCUMENTED)
def test_docstrings_are_whole(name: str) -> None:
    """A docstring is numpydoc: parameters as in the signature, and what is returned."""
    ignored = set(IGNORED)
    found = named(name)
    inherits = inspect.isclass(found) and "__init__" not in vars(found)
    if inherits or getattr(found, "_is_protocol", False):
        ignored.add("PR01")  # made as its base is, where that is told; or not made at all
    if is_typeddict(found):
        ignored.add("PR02")  # its keys are no parameters of a constructor's signature
    errors = validate(f"pixelprep.{name}")["errors"]
    # A private field is a parameter of the class's constructor, which callers do not use.
    wrong = [(code, text) for code, text in errors if code not in ignored and "{'_" not in text]
    assert not wrong


def raised_by(name: str) -> str:
    """Return the errors that a docstring tells of."""
    text = inspect.getdoc(function_of(name)) or ""
    return " ".join(error.type for error in NumpyDocString(text)["Raises"])


@pytest.fixture(scope="module")
def scope(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the public names; in place of some classes, one of their kind."""
    pair = np.zeros((2, 4, 4), np.uint8), np.zeros(3, int)
    two = np.arange(2, dtype=np.uint16).reshape(2, 1, 1, 1)
    split = pixelprep.prepare(
        arrays(), cache_dir=tmp_path_factory.mktemp("cache"), quiet=True
    ).train
    public = {name: getattr(pixelprep, name) for name in pixelprep.__all__}
    made = {"Arrays": pixelprep.Arrays("mislabelled", pair, pair), "Split": split}
    made |= {"Scaling": pixelprep.Scaling.fit(two, "standardize"), "Batches": split.batches(1)}
    made["DatasetStats"] = pixelprep.stats(
        arrays(), cache_dir=tmp_path_factory.mktemp("cache"), quiet=True
    )
    alone = pixelprep.Arrays("alone", arrays().train)
    made["Entry"] = pixelprep.prepare(alone, cache_dir=tmp_path_factory.mktemp("cache"), quiet=True)
    return public | made | {"np": np, "FILE": Path(__file__)}


WRONG = """
open("nowhere")
prepare("sample", mode="scale")
prepare(Arrays, quiet=True)
prepare("sample", cache_dir=FILE)
verify()
verify("nowhere")
verify(every=True, cache_dir=FILE)
cache.describe("nowhere")
export("nowhere", "there", "npz")
export("nowhere", "there", "zip")
push("nowhere", "memory://empty")
pull("mnist", remote="memory://empty")
cache.list_remote("nowhere://empty")
cache.prune_remote("memory://empty", max_size="much")
find_entry("sample")
train("sample", epochs=0)
train("sample", run_dir=FILE)
resume("nowhere")
evaluate("nowhere")
export_model("nowhere", "there", "onnx")
export_model("nowhere", "there", "npz")
predict("nowhere", "picture.png")
compare("sample", repeats=0)
report("nowhere")
report("nowhere", format="gif")
stats("nowhere")
stats(Arrays)
stats("sample", cache_dir=FILE)
DatasetStats.paste("mxnet")
Arrays.load(None)
Scaling.fit(np.zeros((1, 2, 2, 1), np.uint8), "center", per="row")
Scaling.fit(np.full((1, 2, 2, 1), np.inf), "center")
Scaling.apply(np.zeros((1, 1, 1, 1), np.uint16), np.int8)
Scaling.apply(np.full((1, 1, 1, 1), 65535, np.uint16), np.float16)
Scaling.layer("mxnet")
Scaling.invert(np.zeros((4, 4, 3), np.float32))
cache.list(cache_dir=FILE)
cache.prune("soon")
cache.prune(cache_dir=FILE)
cache.remove("nothing")
cache.remove("nothing", cache_dir=FILE)
Entry.test
Entry.val
Entry.class_weight("none")
Split.read(0, 1, "names")
Split.read(0, 1 << 40)
from_dataset(5)
from_generator("g", {"training": list})
Split.mean
Split.std
Split.batches(0)
Split.batches(1, seed=-1)
Split.to_keras(0)
Split.to_tf(0)
Split.as_torch(layout="chw")
Split.to_torch(0)
Split.to_jax(0)
Batches.resume({})
""".strip().splitlines()


def called(call: str) -> str:
    """Return the name of what is called."""
    return call.partition("(")[0].replace("Batches", "dataset.batches.Batches")


@pytest.mark.parametrize("call", WRONG)
def test_docstrings_tell_what_bad_input_raises(call: str, scope: dict[str, Any]) -> None:
    """What a wrong call raises is one of the package's errors, which `Raises` tells of."""
    with pytest.raises(pixelprep.PixelprepError) as caught:
        eval(call, scope)
    assert caught.type.__name__ in raised_by(called(call)).replace(",", "").split()


@pytest.mark.parametrize("name", DOCUMENTED)
def test_docstrings_tell_what_is_raised_on_the_spot(name: str) -> None:
    """A public function with a `raise` in it tells of it, and has a bad call above."""
    source = tree(name)
    if isinstance(source, ast.ClassDef):
        return
    if any(isinstance(node, ast.Raise) for node in ast.walk(source)):
        assert raised_by(name)
    assert not raised_by(name) or name in (*map(called, WRONG), *NO_BAD_INPUT)


# Their errors are those of files that are damaged or gone, or of entries without train: other
# tests make these.
NO_BAD_INPUT = ["Entry.train", "Split.labels", "Split.to_numpy", "TrainResult.from_dict"]
NO_BAD_INPUT += ["Entry.report", "TrainResult.report"]


# Examples

WITH_EXAMPLES = [
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.parametrize("module", WITH_EXAMPLES)
def test_examples_of_docstrings(module: str) -> None:
    """Every example of a docstring prints what it says; none is overlooked but those that train a
    model, which takes TensorFlow and a minute.
    """
    found = importlib.import_module(module.removesuffix(".__init__"))
    result = doctest.testmod(found)
    written = re.findall(
        r"(?m)^ *>>> (?!.*# doctest: \+SKIP$)", Path(str(found.__file__)).read_text()
    )
    assert (result.failed, result.attempted) == (0, len(written))


# Types


@pytest.mark.long  # by default mypy looks at the program in its place among the tests
def test_types_reach_who_uses_them(alone: Path, tmp_path: Path) -> None:
    """A program with the whole public interface is well typed and runs: what it asserts of every
    type is what the installed package declares. What is declared otherwise is an error of mypy's.
    """
    program, wrong = tmp_path / "consumer.py", tmp_path / "wrong.py"
    program.write_text(CONSUMER.read_text())
    wrong.write_text("import pixelprep\n\nkey: int = pixelprep.open('x').key\n")
    home = bare_home(tmp_path / "home")
    strict = ["--strict", "--config-file=", f"--python-executable={alone}"]
    strict.append(f"--cache-dir={ROOT / '.mypy_cache' / 'consumer'}")  # stays: most is NumPy's
    command = [sys.executable, "-m", "mypy", *strict, str(program), str(wrong)]
    error, summary = execute(command, cwd=tmp_path, env=home).stdout.splitlines()
    assert error.startswith("wrong.py:3: error: Incompatible types in assignment")
    assert summary == "Found 1 error in 1 file (checked 2 source files)"
    done([alone, program], cwd=tmp_path, env=home)


def test_the_consumer_uses_all_there_is() -> None:
    """Every public name, and every public method, property and field, is in the program."""
    used = {
        n.attr for n in ast.walk(ast.parse(CONSUMER.read_text())) if isinstance(n, ast.Attribute)
    }
    promised = {part for name in pixelprep.__all__ for part in [name, *public_members(named(name))]}
    assert promised <= used


def public_members(found: Any) -> Iterator[str]:
    """Yield the names of a class's public methods, properties and fields."""
    if inspect.isclass(found):
        fields = getattr(found, "__dataclass_fields__", {})
        yield from (name for name in {*vars(found), *fields} if not name.startswith("_"))
