"""Export a run's model for raw pixels to other runtimes, and compare it there with `serving.keras`.

A SavedModel scales in float64, as `serving.keras` does. ONNX and LiteRT have the same formula in
float32: LiteRT's own operations have no float64, nor has all that runs ONNX.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import shlex
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any  # Any: TensorFlow's and the runtimes' own types

import numpy as np
from numpy.typing import NDArray

from pixelprep.dataset.entry import Entry, Split
from pixelprep.dataset.raw import raw_view
from pixelprep.errors import PixelprepError, TrainError, missing_extra, unknown_choice
from pixelprep.exporters import _readme
from pixelprep.exporters.base import Content
from pixelprep.exporters.export import destination, new_folder
from pixelprep.format.manifest import README, Manifest
from pixelprep.numerics.scaling import Scaling, describe
from pixelprep.system import formatting, fs, tf_runtime
from pixelprep.system.json_record import Record
from pixelprep.training import LITERT, ONNX, SAVED_MODEL
from pixelprep.training.decode_program import decode_program, decoding_in_full
from pixelprep.training.evaluation_data import entry_of
from pixelprep.training.run_folder import MODEL, SERVING, FinishedRun, load_finished
from pixelprep.training.serving import serving_model

if TYPE_CHECKING:
    import keras

ABOUT, CLASSES = "serving.json", "classes.json"
BATCH, MAX_BATCHES = 64, 16  # images at a time, and how often, to compare
BATCH_BYTES = 16 << 20  # of raw images in memory at once
TOLERANCE = 1e-3  # of a probability; float32 by itself is some 1e-6 off

Runtime = Callable[[NDArray[Any]], NDArray[Any]]  # raw pixels (N, H, W, C) -> (N, classes)


@dataclass(frozen=True, slots=True)
class ExportedModel(Record):
    """A run's model in another format.

    Parameters
    ----------
    path : Path
        The folder, absolute. Beside the model, ``serving.json`` has all of this but `path`,
        `bytes` and `seconds`, and ``README.txt`` tells people how to load it.
    model : str
        The model's name in it, of a file or a folder.
    to : str
        The format.
    key : str
        Of the entry that the run was trained on.
    shape : tuple of int
        Of an image: (H, W, C).
    raw_dtype : str
        The type of the raw images; their values are given to the model as float32, or as float64
        to a SavedModel where they are that.
    scaling : str
        What the model does with them, for people.
    decoding : mapping
        The options by which images of training were decoded, as `prepare` has them.
    class_names : tuple of str
        By the model's outputs.
    split : str
        Which images were compared.
    images : int
        How many.
    largest_difference : float
        Between a probability of ``serving.keras`` and the same of this model in its own runtime.
    other_class : int
        Of how many images the likeliest class is another.
    bytes : int
        Of all files.
    seconds : float
        What it took.
    """

    path: Path
    model: str
    to: str
    key: str
    shape: tuple[int, ...]
    raw_dtype: str
    scaling: str
    decoding: Mapping[str, Any]
    class_names: tuple[str, ...]
    split: str
    images: int
    largest_difference: float
    other_class: int
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Format:
    """How a model is written in a format, and how that is read by its own runtime."""

    name: str  # of the file or folder
    packages: dict[str, str]  # by module, beside TensorFlow
    write: Callable[[keras.Model, Path, str], object]  # the last: the class names as JSON
    read: Callable[[Path], Runtime]
    program: str  # that loads it and asks it, for people
    precision: str = "float32"  # of the scaling; that of `serving.keras` is float64

    @property
    def hint(self) -> str | None:
        """What else may be done."""
        return (
            None
            if self.precision == "float64"
            else "`to=saved-model` has all of TensorFlow, and float64"
        )


def export_model(
    run: str | os.PathLike[str],
    directory: str | os.PathLike[str],
    to: str,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> ExportedModel:
    """Write a finished run's model for raw pixels in the format of another runtime.

    It is read back by that runtime, and its answers to images of the held-out split are compared
    with those of ``serving.keras`` before the folder is there. One that differs by more than 0.001
    is refused. Images come in batches of any size.

    Parameters
    ----------
    run : path
        The run's folder.
    directory : path
        The folder to be made, which must be new or empty.
    to : str
        ``saved-model``: ``serving.saved-model``, a folder for TensorFlow, TensorFlow Serving and
        `keras.layers.TFSMLayer`; it computes as ``serving.keras`` does. ``onnx``: ``serving.onnx``
        for ONNX Runtime and others. ``litert``: ``serving.tflite`` for LiteRT, TensorFlow Lite's
        new name. The latter two scale in float32.
    cache_dir : path, optional
        Where the run's entry is; default: ``PIXELPREP_CACHE_DIR``, else the system's folder for
        caches.
    quiet : bool
        Draw no progress bar.

    Returns
    -------
    ExportedModel
        The folder, and by how much the model differs.

    Raises
    ------
    UsageError
        When there is no such format, or the folder cannot be made.
    TrainError
        When there is no such run, its model cannot be converted, or differs.
    EntryError
        When the run's entry, whose images are compared, is no longer there.
    CacheError
        When the disk is full or fails.
    MissingExtraError
        When TensorFlow, the converter or the runtime is not installed.

    Examples
    --------
    >>> import pixelprep
    >>> done = pixelprep.export_model("runs/mine", "mine-onnx", "onnx")  # doctest: +SKIP
    >>> done.model, done.largest_difference  # doctest: +SKIP
    ('serving.onnx', 1.7881393432617188e-07)
    """
    started = time.perf_counter()
    if to not in FORMATS:
        raise unknown_choice("to", to, FORMATS)
    form = FORMATS[to]
    finished = load_finished(fs.expand_user(run))
    final = destination(directory)
    tf_runtime.require(f"export to {to}")
    for module, package in form.packages.items():
        if importlib.util.find_spec(module) is None:
            raise missing_extra(package, "portable", f"export to {to}")
    entry = entry_of(finished, None, cache_dir, quiet, {})
    tf_runtime.start_keras(f"export to {to}")
    reference = finished.model(SERVING)
    with new_folder(final) as private:
        path = private / form.name
        model = _build(finished, form.precision)
        with _explained(form, to):
            with tf_runtime.silence_stderr():  # converters write pages of it, of what went well
                form.write(model, path, json.dumps(entry.class_names, ensure_ascii=False))
                runtime = form.read(path)
            compared = _compare(reference, runtime, entry)
        about = {
            "model": form.name,
            "to": to,
            "key": entry.key,
            "shape": entry.train.shape[1:],
            "raw_dtype": entry.scaling.raw_dtype,
            "scaling": describe(entry.scaling),
            "decoding": decoding_in_full(finished.manifest),
            "class_names": tuple(entry.class_names),
            **compared,
        }
        _check(about, finished, form)
        (private / ABOUT).write_text(f"{json.dumps(about, indent=1, ensure_ascii=False)}\n")
        (private / README).write_bytes(_page(about, entry))
        files = [path for path in private.rglob("*") if path.is_file()]
        for path in files:
            fs.fsync(path)
        size = sum(path.stat().st_size for path in files)
    return ExportedModel(final, **about, bytes=size, seconds=time.perf_counter() - started)


def program(to: str, shape: Sequence[int]) -> str:
    """Return the program that asks a model of this format, in its folder, about raw pixels."""
    text = FORMATS[to].program
    imports, ask = text.split("\n\n")
    return PROGRAM.format(imports=imports, ask=ask.rstrip(), shape=(1, *shape))


def _page(about: Mapping[str, Any], entry: Entry) -> bytes:
    """Return the content of README.txt."""
    height, width, channels = about["shape"]
    kind = {1: "grey", 3: "RGB"}.get(channels, f"{channels} channels")
    given = (
        "float64"
        if about["raw_dtype"] == "float64" == FORMATS[about["to"]].precision
        else "float32"
    )
    files = [
        Content(about["model"], "", f"the model, for {about['to']}"),
        Content(ABOUT, "", "all that is said here, for programs"),
    ]
    takes = (
        f"raw_pixels, {given} (N, {height}, {width}, {channels}): {kind} pixels as they are decoded"
        f" ({about['raw_dtype']}), not scaled.\nThe model scales them itself: {about['scaling']}."
    )
    compared = (
        f"On {about['images']:,} images of {about['split']} a probability differs from that of"
        f" serving.keras by {about['largest_difference']:.2g} at most."
    )
    sections = {
        "What is in it": "\n".join(f"{one.name}: {one.about}" for one in files),
        "It takes": takes,
        "Decode an image": _decoded(about["decoding"], entry.manifest),
        "It gives": f"probabilities, float32 (N, {len(about['class_names'])}), of the classes:\n"
        + _readme.class_list(about["class_names"]),
        "Use it": _readme.indented(program(about["to"], about["shape"])),
        "How exact": compared,
        "Data": _readme.terms(entry.manifest),
    }
    title = f"A model of {entry.dataset}, as {about['to']}"
    return _readme.page(title, entry.manifest, sections)


def _decoded(told: Mapping[str, Any], manifest: Manifest) -> str:
    """Say how images of training were decoded, and what does the same."""
    options = shlex.join(formatting.options(told))
    code = decode_program(manifest)
    by = "this gives the same pixels" if code else "`pixelprep predict RUN IMAGE` does it"
    text = f"Decoded as in training: {options}; {by}."
    return f"{text}\n\n{_readme.indented(code)}" if code else text


def _build(run: FinishedRun, precision: str) -> keras.Model:
    """Build the run's model for raw pixels, its scaling in this arithmetic."""
    manifest = run.manifest
    images, names = manifest.splits["train"], manifest.source.class_names
    scaling = manifest.scaling.scaling(manifest.recipe)
    shape, dtype = images.shape[1:], images.dtype
    return serving_model(run.model(MODEL), scaling, shape, dtype, names, precision)


@contextmanager
def _explained(form: _Format, to: str) -> Iterator[None]:
    """Say in one line what a converter or a runtime makes of a model that it cannot take."""
    try:
        yield
    except (OSError, PixelprepError):
        raise
    except Exception as error:  # each says it in its own way
        lacks = re.search(r"'tf\.(\w+)' op is neither|No Op registered for (\w+)", str(error))
        operation = f"it has no operation {lacks[1] or lacks[2]}" if lacks else None
        reason = operation or str(error)[:200] or type(error).__name__
        raise TrainError(f"`to={to}` cannot have this model: {reason}", form.hint) from error


def _compare(reference: keras.Model, runtime: Runtime, entry: Entry) -> dict[str, Any]:
    """Return what `ExportedModel` tells of the comparison."""
    split = entry.held_out or entry.train
    differences, others, images = [], 0, 0
    for raw in _raw_batches(split, entry.scaling):
        wanted, found = reference.predict_on_batch(raw), runtime(raw)
        differences.append(np.abs(found.astype(np.float64) - wanted).max())
        others += int((found.argmax(axis=1) != wanted.argmax(axis=1)).sum())
        images += len(raw)
    largest = float(np.max(differences))
    told = {"split": split.name, "images": images, "largest_difference": largest}
    return told | {"other_class": others}


def _raw_batches(split: Split, scaling: Scaling) -> Iterator[NDArray[Any]]:
    """Yield raw images of all parts of a split: the first alone, then some in batches."""
    images = raw_view(split, scaling, clipped=True)
    kind = "float64" if images.dtype == np.float64 else "float32"
    yield images[:1].astype(kind)
    step = max(1, min(BATCH, BATCH_BYTES // images[:1].nbytes))
    starts = range(1, len(images), step)
    for start in starts[:: max(1, math.ceil(len(starts) / MAX_BATCHES))]:
        yield images[start : start + step].astype(kind)


def _check(about: Mapping[str, Any], run: FinishedRun, form: _Format) -> None:
    """Refuse a model that answers otherwise."""
    difference = about["largest_difference"]
    if difference <= TOLERANCE:  # no NaN is
        return
    found = f"{form.name} differs from its {SERVING} by {difference:.2g} in a probability"
    raise TrainError(f"{run.folder}: {found}: expected {TOLERANCE:g} or less", form.hint)


def _write_saved_model(model: keras.Model, path: Path, class_names: str) -> None:
    model.export(path, format="tf_saved_model", verbose=False)
    extra = path / "assets.extra"  # TensorFlow's place for files that are not the model's own
    extra.mkdir()
    (extra / CLASSES).write_text(class_names)


def _read_saved_model(path: Path) -> Runtime:
    import tensorflow as tf

    loaded = tf.saved_model.load(path)
    return lambda raw: loaded.serve(tf.constant(raw)).numpy()


def _write_onnx(model: keras.Model, path: Path, class_names: str) -> None:
    import onnx

    model(np.zeros((1, *model.input_shape[1:]), np.float32))  # else Keras has it as never called
    model.export(path, format="onnx", verbose=False)
    written = onnx.load(path)
    onnx.helper.set_model_props(written, {"class_names": class_names})
    onnx.save(written, path)


def _read_onnx(path: Path) -> Runtime:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda raw: session.run(None, {name: raw.astype(np.float32)})[0]


def _write_litert(model: keras.Model, path: Path, class_names: str) -> None:
    import tensorflow as tf

    # Keras would take TensorFlow's operations too, which a plain LiteRT does not have.
    own = {"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS]}
    model.export(path, format="litert", verbose=False, target_spec=own)
    with zipfile.ZipFile(path, "a") as packed:  # where LiteRT has files that go with a model
        packed.writestr(zipfile.ZipInfo(CLASSES), class_names)


def _read_litert(path: Path) -> Runtime:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(os.fspath(path))
    interpreter.allocate_tensors()
    run = interpreter.get_signature_runner()
    (name,), (found,) = run.get_input_details(), run.get_output_details()
    return lambda raw: run(**{name: raw.astype(np.float32)})[found]


PROGRAM = """\
import json

import numpy as np
{imports}

with open("serving.json") as file:
    classes = json.load(file)["class_names"]
raw = np.zeros({shape}, np.float32)  # raw pixels, not scaled
{ask}
print(classes[probabilities[0].argmax()])
"""
_USE_SAVED_MODEL = """\
import tensorflow as tf

model = tf.saved_model.load("serving.saved-model")
probabilities = model.serve(raw).numpy()
"""
_USE_ONNX = """\
import onnxruntime

model = onnxruntime.InferenceSession("serving.onnx")
[probabilities] = model.run(None, {"raw_pixels": raw})
"""
_USE_LITERT = """\
from ai_edge_litert.interpreter import Interpreter

run = Interpreter("serving.tflite").get_signature_runner()
[probabilities] = run(raw_pixels=raw).values()
"""
_CONVERTER = {"tf2onnx": "tf2onnx", "onnx": "onnx", "onnxruntime": "onnxruntime"}
_INTERPRETER = {"ai_edge_litert": "ai-edge-litert"}
FORMATS = {
    SAVED_MODEL: _Format(
        "serving.saved-model",
        {},
        _write_saved_model,
        _read_saved_model,
        _USE_SAVED_MODEL,
        "float64",
    ),
    ONNX: _Format("serving.onnx", _CONVERTER, _write_onnx, _read_onnx, _USE_ONNX),
    LITERT: _Format("serving.tflite", _INTERPRETER, _write_litert, _read_litert, _USE_LITERT),
}
