"""Declare the options of `prepare`, each in one place: here.

A field of one of these classes is an option: from it follow the parameter of `pixelprep.prepare`
and its documentation, the option of the command line with its help and completion, and its
environment variable.

- `RecipeOptions`: a part of the recipe, and so of the key;
- `ScalingOptions`: what modes take, of which parts of the recipe are made (`format.recipe`);
- `DecodeOptions`: how a source reads its pixels, for `sources.Options`; a part of the identity of
  user's files;
- `NetworkOptions`, `RemoteOptions` and `MachineOptions`: of no effect on what is stored.

All but the last three, and `force`, are kept with an entry for repair. The command line loads this
module at once, so it loads no NumPy.
"""

import inspect
import os
import re
import textwrap
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, fields
from functools import partial, wraps
from pathlib import Path
from types import NoneType
from typing import Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints  # Any: any value

from pixelprep.errors import UsageError, check_int, named_type_error, unknown_choice
from pixelprep.format import label_options, layout
from pixelprep.numerics import checks
from pixelprep.numerics.modes import DEFAULT_MODE, MODES, PER, check_taken
from pixelprep.numerics.presets import PRESETS

MAX_SIDE = 1 << 16  # pixels
ON_LEAK = ("warn", "fail", "drop")
ON_ERROR = ("fail", "skip")
MATLAB = "matlab"  # a layout: that of MATLAB 7.3
COLORS = dict.fromkeys(("gray", "greyscale", "grayscale", "l"), "grey") | {"color": "rgb"}
SWITCHES = dict.fromkeys(("0", "false", "f", "no", "n", "off"), False)
SWITCHES |= dict.fromkeys(("1", "true", "t", "yes", "y", "on"), True)

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
Check = Callable[[str, Any], object]  # of a name and a value; returns the value to use, or raises


@dataclass(frozen=True, slots=True)
class Option:
    """What is known of an option beside its name, type and default."""

    help: str  # a sentence for the command line's help and for the docstring
    metavar: str | None = None  # stands for the value in that help; default: the choices, the type
    choices: Collection[str] = ()  # the values that it may have, if these are few
    check: Check | None = None
    env: str | None = None  # the environment variable that gives the value where None is given
    others: Mapping[str, str] = field(default_factory=dict)  # what else a choice is called, if any

    def meant(self, value: Any) -> Any:
        """Return the choice that is called otherwise, or in another case; else the value."""
        if not self.others:
            return value
        word = str(value).lower()
        return word if word in self.choices else self.others.get(word, value)


def option(default: T, help: str, metavar: str | None = None, **details: Any) -> T:
    """Declare an option: a field of a dataclass; `details` are as `Option` has them."""
    if details.get("env") and default is not None:
        raise TypeError("an environment variable stands for None, which must be the default")
    return field(default=default, metadata={"option": Option(help, metavar, **details)})


def declared_options(cls: type) -> dict[str, Option]:
    """Return the options that a dataclass declares or inherits, by name."""
    return {f.name: f.metadata["option"] for f in fields(cls) if "option" in f.metadata}


def _fraction(name: str, value: float) -> float:
    if isinstance(value, int | float) and 0 <= value < 1:
        return float(value) or 0.0  # -0.0 is spelled differently in JSON
    raise UsageError(f"`{name}={value}`: expected 0 or more, below 1")


def _switch(name: str, value: object) -> bool:
    word = str(value).strip().lower()  # also of the environment
    if word not in SWITCHES:
        raise UsageError(f"`{name}={value}`: expected true or false")
    return SWITCHES[word]


def _of_environment(declared: "Option") -> str | None:
    """Return what the environment has for an option, if it is not empty."""
    value = os.environ.get(declared.env or "", "")
    return value if value.strip() else None


def _file(name: str, value: object) -> str:
    """Return a file's path, absolute if it is there: it may also be meant in another folder."""
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"`{name}={value!r:.80}`: expected a path")
    path = Path(value).expanduser()
    return os.fspath(path.absolute() if path.is_file() else path)


def _image_size(name: str, value: Any) -> tuple[int, int]:  # Any: whatever the user wrote
    try:
        sides = map(int, re.split("[xX×]", value)) if isinstance(value, str) else value
        sides = (sides,) if isinstance(sides, int) else sides
        given = [check_int(name, side, 1, MAX_SIDE) for side in sides]
        height, width = given * 2 if len(given) == 1 else given
    except (TypeError, ValueError):
        expected = f"expected HxW, such as 64x64, or one side of a square, each 1 to {MAX_SIDE}"
        raise UsageError(f"`{name}={value}`: {expected}") from None
    return height, width


def _row_shape(name: str, value: Any) -> tuple[int, ...]:  # Any: whatever the user wrote
    try:
        sides = map(int, re.split("[x×]", value)) if isinstance(value, str) else value
        shape = tuple(check_int(name, side, 1, MAX_SIDE) for side in sides)
    except (TypeError, ValueError):
        shape = ()
    if len(shape) not in (2, 3):
        raise UsageError(f"`{name}={value}`: expected HxW or HxWxC, such as 28x28 or 32x32x3")
    return shape


def check_layout(name: str, value: object) -> object:
    """Return an order of axes; refuse any other value."""
    if value != MATLAB and sorted(str(value)) not in (sorted("nhwc"), sorted("nhw")):
        expected = f"expected the letters n, h, w and c in the order of the axes, or {MATLAB}"
        raise UsageError(f"`{name}={value}`: {expected}", "channels first: `layout=nchw`")
    return value


def _compression(name: str, value: str) -> str:
    layout.check_compression(value)
    return value


@dataclass(frozen=True, kw_only=True)
class RecipeOptions:
    """Options that decide the stored bytes: parts of the recipe."""

    mode: str = option(
        DEFAULT_MODE,
        "The scaling, fitted on the training split: "
        + "; ".join(f"{name} gives {mode.result}" for name, mode in MODES.items())
        + ".",
        choices=MODES,
    )
    per: str = option(
        "channel",
        "Pixels that share a statistic: all; those of each channel, of each place, of each image.",
        choices=PER,
    )
    rescale: bool = option(
        False,
        "Divide integers by their type's maximum first (normalize is this alone).",
        check=_switch,
    )
    val_fraction: float = option(
        0.0,
        "Share of every class taken from train for validation, before the statistics: 0 <= F < 1.",
        "F",
        check=_fraction,
    )
    test_fraction: float = option(
        0.0,
        "Share of every class taken from train for a test split, before validation: 0 <= F < 1.",
        "F",
        check=_fraction,
    )
    split_seed: int = option(
        0,
        "Which images are taken for validation and for a test split: 0 to 2**64 - 1.",
        check=partial(check_int, low=0, high=2**64 - 1),
    )
    dtype: str = option("float32", "Type of the scaled images.", choices=layout.DTYPES)
    storage: str = option(
        "scaled",
        "What is stored: scaled pixels; or raw integers, which are scaled to the same values when"
        " they are read, and take less room: 8 bits a quarter of float32.",
        choices=layout.STORAGES,
    )
    compression: str = option(
        "none", "Compression of the stored images.", choices=layout.COMPRESSIONS, check=_compression
    )
    shard_rows: int | None = option(
        None,
        "Images per file (default: as many as fit into 256 MiB).",
        "N",
        check=partial(check_int, low=1),
    )


@dataclass(frozen=True, kw_only=True)
class ScalingOptions:
    """Options of a scaling, each taken by some modes only."""

    preset: str | None = option(
        None,
        "The constants of pretrained models, with mode fixed: " + ", ".join(PRESETS) + ".",
        "NAME",
        choices=PRESETS,
    )
    mean: str | float | tuple[float, ...] | None = option(
        None,
        "What mode fixed subtracts: one number, or one of each channel.",
        "R,G,B",
        check=checks.check_numbers,
    )
    std: str | float | tuple[float, ...] | None = option(
        None, "What mode fixed then divides by, likewise.", "R,G,B", check=checks.check_deviations
    )
    units: str | None = option(
        None,
        "What mean and std are of: values over the maximum of the pixels' type (max, the default),"
        " or pixels as they are (pixel).",
        choices=("max", "pixel"),
    )
    channel_order: str | None = option(
        None,
        "Turn RGB round before mode fixed; mean and std are in that order.",
        choices=("bgr",),
    )
    range: str | tuple[float, ...] | None = option(
        None,
        "Normalize to this range (default: 0,1).",
        "A,B",
        check=checks.check_range,
    )
    limits: str | None = option(
        None,
        "Normalize integers by the smallest and the largest of train (per image: of each), not of"
        " their type.",
        choices=checks.LIMITS,
    )
    quantiles: str | tuple[float, ...] | None = option(
        None,
        "Quantiles of train whose difference mode robust divides by (default: 0.25,0.75).",
        "LOW,HIGH",
        check=checks.check_quantiles,
    )
    clip: bool = option(
        False,
        "Bring pixels between these quantiles first: what is cut off cannot be had back.",
        check=_switch,
    )


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Options of downloads."""

    mirror: str | None = option(None, "URL that is tried first.", "URL", env="PIXELPREP_MIRROR")
    offline: bool | None = option(
        None, "Open no connection.", env="PIXELPREP_OFFLINE", check=_switch
    )


@dataclass(frozen=True, kw_only=True)
class DecodeOptions:
    """Options of how a source reads its pixels; each is supported by some sources only."""

    size: str | int | tuple[int, int] | None = option(
        None,
        "Resize the images of a folder to this height and width (224: 224x224).",
        "HxW",
        check=_image_size,
    )
    color: str | None = option(
        None, "Convert the images of a folder to these.", choices=("grey", "rgb"), others=COLORS
    )
    on_error: str | None = option(
        None,
        "When an image cannot be read or has no label: stop (fail), or leave it out (skip).",
        choices=ON_ERROR,
    )
    images_key: str | None = option(
        None,
        "Which array of a file has the images; {split} in it stands for train, val and test;"
        " FILE:KEY names another file beside it.",
        "KEY",
    )
    labels_key: str | None = option(None, "Likewise, of the labels.", "KEY")
    layout: str | None = option(
        None,
        "Order of the axes of images in an array: nchw (channels first) or any other; matlab: as"
        " MATLAB 7.3 stores them, reversed (default: nhwc).",
        "nchw|matlab",
        check=check_layout,
    )
    labels_from: int | None = option(
        None, "The number of the first class in arrays of labels (default: 0).", "N"
    )
    renumber: bool = option(
        False, "Number only the classes that occur in arrays of labels, in order.", check=_switch
    )
    on_leak: str | None = option(
        None,
        "When the same image is in several of train, val and test: say so (warn), stop (fail), or"
        " leave it in the first of them alone (drop).",
        choices=ON_LEAK,
    )
    orientation: str = option(
        "follow",
        "What the images of a folder say of the way up, in EXIF or TIFF: follow or ignore it.",
        choices=("follow", "ignore"),
    )
    alpha: str | None = option(
        None,
        "Transparent images of a folder: lay them on white or black, drop their alpha, or keep it"
        " as one more channel (default: refuse them).",
        choices=("white", "black", "drop", "keep"),
    )
    page: str | None = option(
        None,
        "Image files of several pages or frames: take the first (default: refuse them).",
        choices=("first",),
    )
    fit: str = option(
        "stretch",
        "Where the size has another aspect than an image: stretch the image; crop it, to what is at"
        " its centre; or pad it with black on two sides.",
        choices=("stretch", "crop", "pad"),
    )
    filter: str = option(
        "bilinear",
        "How images are resized, each as Pillow does it.",
        choices=("nearest", "box", "bilinear", "bicubic", "lanczos"),
    )
    jpeg: str = option(
        "full",
        "JPEG files that are resized: decode all of their pixels; or, faster, a draft of them, by"
        " halves, that is at least twice the size: other pixels, mostly by one level.",
        choices=("full", "draft"),
    )
    follow_links: bool = option(
        False, "Use what links lead to outside of the folder of images, too.", check=_switch
    )
    labels: str | os.PathLike[str] | None = option(
        None,
        "Table with the labels of pictures, CSV, JSON lines or Parquet (default: metadata.csv and"
        " the like in their folder).",
        "FILE",
        check=_file,
    )
    columns: str | Mapping[str, str] | None = option(
        None,
        "Columns of a table that have other names than usual, file=NAME,label=NAME,split=NAME;"
        " label=A+B where each class has a column of 0 and 1.",
        "ROLE=NAME,…",
        check=label_options.columns,
    )
    label_delimiter: str | None = option(
        None, "What is between the labels of a row that has several: '|'.", "TEXT"
    )
    group_column: str | None = option(
        None,
        "Column of a table: rows equal in it (a patient, a camera) stay in one split.",
        "NAME",
    )
    group_pattern: str | None = option(
        None,
        "Regular expression for file names: those equal in what it, or its first parentheses, match"
        " stay in one split.",
        "REGEX",
        check=label_options.pattern,
    )
    classes: str | tuple[str, ...] | None = option(
        None,
        "Classes to take, in this order: names, or a file with one on each line.",
        "A,B,…|FILE",
        check=label_options.class_list,
    )
    class_map: str | Mapping[str, str] | None = option(
        None,
        "File with lines CLASS,NEW: classes that become another, several of them one.",
        "FILE",
        check=label_options.class_map,
    )
    shape: str | tuple[int, ...] | None = option(
        None,
        "Shape of an image where an array holds flat rows: 28x28, 32x32x3.",
        "HxW[xC]",
        check=_row_shape,
    )
    test_from: str | None = option(
        None, "Take this split of the data as its test split.", choices=("val",)
    )


# Of these, what a model was trained on; the others say how data is written down.
FIXED = frozenset({"size", "color", "fit", "filter", "jpeg", "orientation", "alpha", "page"})
READING = declared_options(DecodeOptions).keys() - FIXED


# What the manifest's `decode` has of each choice; opaque: no image has transparency.
RECORDED: dict[str, dict[str | None, str]] = {
    "orientation": {"follow": "followed", "ignore": "ignored"},
    "alpha": {
        **{None: "opaque", "drop": "dropped", "keep": "kept"},
        **{color: color for color in ("white", "black")},
    },
}


def decode_options(decode: Mapping[str, object]) -> dict[str, Any]:
    """Return the options of decoding that `decode` tells of, where they are not the default."""
    as_given = ("size", "fit", "filter", "jpeg", "color", "page", "layout")
    told = {
        name: decode[name]
        for name in as_given
        if decode.get(name, getattr(DecodeOptions, name)) != getattr(DecodeOptions, name)
    }
    for name, recorded in RECORDED.items():
        choices = {record: choice for choice, record in recorded.items()}
        choice = choices.get(str(decode.get(name)))
        if choice is not None and choice != getattr(DecodeOptions, name):
            told[name] = choice
    return told


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Options of where and how the work is done."""

    workers: int | Executor | None = option(
        None,
        "Processes that share the work, 1: no other (in Python also an executor); changes no byte"
        " (default: threads, one for each processor that may be used).",
        "N",
    )
    scheduler: str | None = option(
        None, "Dask scheduler whose workers share the work.", "tcp://HOST:PORT"
    )
    cache_dir: str | os.PathLike[str] | None = option(
        None,
        "Cache folder (default: the system's place for caches).",
        "DIR",
        env="PIXELPREP_CACHE_DIR",
    )
    quiet: bool = option(False, "Draw no progress bars.", check=_switch)


@dataclass(frozen=True, kw_only=True)
class ReadOptions(MachineOptions, DecodeOptions, NetworkOptions):
    """Options of reading raw data."""

    source: str | os.PathLike[str] | None = option(
        None, "Folder with the raw files; nothing is downloaded.", "DIR"
    )


@dataclass(frozen=True, kw_only=True)
class RemoteOptions:
    """Options of sharing what is prepared."""

    remote: str | None = option(
        None,
        "Where others' entries are, a URL or a folder: one that is there is copied, not made.",
        "URL",
        env="PIXELPREP_REMOTE",
    )
    push: bool = option(
        False, "Store the entry in the remote, too, unless it is there.", check=_switch
    )


@dataclass(frozen=True, kw_only=True)
class PrepareOptions(RemoteOptions, ReadOptions, ScalingOptions, RecipeOptions):
    """All options of `prepare`, checked: a `UsageError` or `MissingExtraError` refuses a value."""

    force: bool = option(False, "Make the entry again if it is there.", check=_switch)
    scaling_of: str | os.PathLike[str] | None = option(
        None,
        "An entry whose scaling is taken over: nothing is fitted, so train is not required; data"
        " without splits is a test split.",
        "ENTRY",
    )

    def __post_init__(self) -> None:
        for name, declared in declared_options(type(self)).items():
            value, told = getattr(self, name), name
            if value is None and declared.env:
                value, told = _of_environment(declared), declared.env
            if value is None:
                value = getattr(type(self), name)  # the default
            if value is not None:
                value = declared.meant(value)
                if declared.choices and value not in tuple(declared.choices):
                    raise unknown_choice(name, str(value), declared.choices)
                value = declared.check(told, value) if declared.check else value
                _check_type(name, value)
            object.__setattr__(self, name, value)
        self._check_scaling()
        if self.push and (self.remote is None or self.offline):
            wrong = (
                "expected a `remote`" if self.remote is None else "`offline` opens no connection"
            )
            hint = "give `remote=URL`, or set PIXELPREP_REMOTE"
            raise UsageError(f"`push=True`: {wrong}", "leave one out" if self.remote else hint)

    def _check_scaling(self) -> None:
        """Refuse options of scaling that do not go together, before any data is read."""
        given = {name: getattr(self, name) for name in declared_options(ScalingOptions)}
        if self.scaling_of is not None:
            if named := [name for name, value in given.items() if value not in (None, False)]:
                message = f"`{named[0]}`: the scaling is that of `scaling_of={self.scaling_of}`"
                raise UsageError(message, "leave one of them out")
            return
        check_taken(self.mode, given)
        where, own = f"`mode={self.mode}`", (self.mean, self.std, self.channel_order)
        if not MODES[self.mode].is_given:
            return
        if self.rescale:
            hint = "`units=max`, the default, divides first"
            raise UsageError(f"{where}: takes no `rescale`", hint)
        if self.preset and own != (None, None, None):
            message = f"`preset={self.preset}`: has a mean, std and order of channels of its own"
            raise UsageError(message, "leave the preset out, or all else")
        if not self.preset and None in own[:2]:
            raise UsageError(f"{where}: expected `mean` and `std`, or a `preset`")


PREPARE_OPTIONS = declared_options(PrepareOptions)
SCALING_OPTIONS = frozenset(declared_options(ScalingOptions))
MACHINE_ONLY = frozenset(declared_options(MachineOptions))
RUNTIME_ONLY = MACHINE_ONLY  # change no stored byte
RUNTIME_ONLY |= declared_options(NetworkOptions).keys() | declared_options(RemoteOptions).keys()
TYPES = get_type_hints(PrepareOptions)  # by name
REPAIR_OPTIONS = PREPARE_OPTIONS.keys() - RUNTIME_ONLY - {"force"}  # kept to make an entry again


def option_types(name: str) -> list[Any]:  # Any: types, some of them of a typing form
    """Return the types that an option's values may have, but for None."""
    hint = TYPES[name]
    return [kind for kind in get_args(hint) or (hint,) if kind is not NoneType]


def _check_type(name: str, value: object) -> None:
    kinds = [get_origin(kind) or kind for kind in option_types(name)]
    if not isinstance(value, tuple(kinds)) or (type(value) is bool and bool not in kinds):
        expected = " or ".join(map(_type_name, option_types(name)))
        raise UsageError(f"`{name}={value!r:.80}`: expected {expected}")


def _type_name(kind: Any) -> str:
    origin = get_origin(kind)
    if origin is tuple:
        return f"tuple of {get_args(kind)[0].__name__}"
    special: dict[Any, str] = {os.PathLike: "path", Mapping: "mapping"}
    return special.get(origin) or str(kind.__name__)


def json_types(name: str) -> tuple[type, ...]:
    """Return the types that an option's values have in a JSON file."""
    number = (int, float)
    special: dict[Any, tuple[type, ...]] = {bool: number, float: number, os.PathLike: (str,)}
    special |= {tuple: (list,), Mapping: (dict,)}
    kinds = [get_origin(kind) or kind for kind in option_types(name)]
    return tuple(dict.fromkeys(one for kind in kinds for one in special.get(kind, (kind,))))


def takes(cls: Callable[P, T]) -> Callable[[Callable[[T], R]], Callable[P, R]]:
    """Let a function have a dataclass's fields as its parameters: it is called with an instance."""

    def decorate(function: Callable[[T], R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                given = cls(*args, **kwargs)
            except TypeError as error:  # an argument that there is not
                raise named_type_error(error, function.__name__) from None
            return function(given)

        signature, returned = inspect.signature(cls), inspect.signature(function).return_annotation
        call.__signature__ = signature.replace(return_annotation=returned)  # type: ignore[attr-defined]
        return documented(cls)(call)  # type: ignore[arg-type] # a class is what it is called by

    return decorate


def documented(*options: type) -> Callable[[T], T]:
    """Replace ``{options}`` in a docstring, indented by 4, by the numpydoc of classes' options."""
    parts = []
    declarations = [one for cls in options for one in declared_options(cls).items()]
    for name, declared in declarations:
        if declared.choices:
            kind = "{" + ", ".join(f'"{choice}"' for choice in declared.choices) + "}"
        else:
            names = list(map(_type_name, option_types(name)))
            kind = "path" if "path" in names else " or ".join(names)
        optional = ", optional" if NoneType in get_args(TYPES[name]) else ""
        help = declared.help + (f" Environment: ``{declared.env}``." if declared.env else "")
        lines = textwrap.indent(textwrap.fill(help, 92), " " * 8)
        parts.append(f"{name} : {kind}{optional}\n{lines}")
    text = "\n    ".join(parts)

    def decorate(thing: T) -> T:
        thing.__doc__ = (thing.__doc__ or "").replace("{options}", text)
        return thing

    return decorate
