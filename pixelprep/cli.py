"""The command line: parses, makes one library call, prints; nothing else.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.
"""

import contextlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from pixelprep import __version__
from pixelprep.errors import PixelprepError, UsageError

if TYPE_CHECKING:
    from pixelprep.entry import Entry

INTERRUPTED = 130

app = typer.Typer(
    name="pixelprep",
    help="Image datasets scaled once, exactly, and reused anywhere.",
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Mode = Annotated[str, typer.Option(help="The scaling.", metavar="normalize|center|standardize")]
Per = Annotated[
    str,
    typer.Option(help="Over what one statistic is shared.", metavar="dataset|channel|pixel|image"),
]
Rescale = Annotated[
    bool,
    typer.Option(
        "--rescale",
        help="Divide integers by their type's maximum first (normalize is this alone).",
    ),
]
ValFraction = Annotated[
    float,
    typer.Option(
        help="Share of every class taken from train for validation, before the statistics.",
        metavar="F",
    ),
]
SplitSeed = Annotated[int, typer.Option(help="Which images are taken for validation.")]
Dtype = Annotated[str, typer.Option(help="Stored type.", metavar="float32|float16")]
Compression = Annotated[
    str, typer.Option(help="Of the stored images.", metavar="none|gzip|lzf|lz4|zstd")
]
ShardRows = Annotated[
    int | None,
    typer.Option(help="Images a file (default: what fits into 256 MiB).", metavar="N"),
]
SourceDir = Annotated[
    Path | None,
    typer.Option(help="Folder with the raw files; nothing is downloaded.", metavar="DIR"),
]
Mirror = Annotated[
    str | None,
    typer.Option(help="URL that is tried first.", envvar="PIXELPREP_MIRROR", metavar="URL"),
]
Offline = Annotated[
    bool | None,
    typer.Option("--offline", help="Open no connection.", envvar="PIXELPREP_OFFLINE"),
]
Size = Annotated[
    str | None,
    typer.Option(help="Resize the images of a folder.", metavar="HxW"),
]
Color = Annotated[
    str | None,
    typer.Option(help="Turn the images of a folder into these.", metavar="grey|rgb"),
]
TestFraction = Annotated[
    float | None,
    typer.Option(
        help="Share of every class that becomes the test split, where there is none.", metavar="F"
    ),
]
OnError = Annotated[
    str | None,
    typer.Option(
        help="A damaged image of a folder stops all (fail), or is left out and listed (skip).",
        metavar="fail|skip",
    ),
]
ImagesKey = Annotated[
    str | None,
    typer.Option(
        help="Where an HDF5 file has images; {split} in it stands for train and test.",
        metavar="KEY",
    ),
]
LabelsKey = Annotated[
    str | None, typer.Option(help="Where an HDF5 file has labels.", metavar="KEY")
]
Workers = Annotated[
    int, typer.Option(help="Processes that share the work; changes no byte.", metavar="N")
]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Dask scheduler whose workers share the work.", metavar="tcp://HOST:PORT"),
]
Force = Annotated[bool, typer.Option("--force", help="Make the entry again if it is there.")]
CacheDir = Annotated[
    Path | None,
    typer.Option(
        help="Cache folder (default: the system's place for caches).",
        envvar="PIXELPREP_CACHE_DIR",
        metavar="DIR",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No bars, no messages; results only.")]


@app.callback(invoke_without_command=True)
def _pixelprep(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if version:
        typer.echo(f"pixelprep {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def prepare(
    context: typer.Context,
    dataset: Annotated[
        str,
        typer.Argument(
            help="A known name (see `pixelprep datasets`) or a path, ./digits.", metavar="DATASET"
        ),
    ] = "mnist",
    mode: Mode = "standardize",
    per: Per = "channel",
    rescale: Rescale = False,
    val_fraction: ValFraction = 0.0,
    split_seed: SplitSeed = 0,
    dtype: Dtype = "float32",
    compression: Compression = "none",
    shard_rows: ShardRows = None,
    source: SourceDir = None,
    mirror: Mirror = None,
    offline: Offline = None,
    size: Size = None,
    color: Color = None,
    test_fraction: TestFraction = None,
    on_error: OnError = None,
    images_key: ImagesKey = None,
    labels_key: LabelsKey = None,
    workers: Workers = 1,
    scheduler: Scheduler = None,
    force: Force = False,
    cache_dir: CacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Scale a dataset and store it as HDF5, once; a second call finds it there."""
    given = context.params
    _messages(quiet)
    from pixelprep.preparation import prepare as prepare_dataset

    started = time.perf_counter()
    options = {name: given[name] for name in given if name not in ("dataset", "as_json")}
    entry = prepare_dataset(dataset, **options)
    seconds = time.perf_counter() - started
    _show(_prepared(entry, seconds), as_json, lambda _: _print_prepared(entry, seconds))


@app.command()
def train(
    context: typer.Context,
    dataset: Annotated[
        str,
        typer.Argument(
            help="A known name, a path to images, or an entry.", metavar="DATASET|ENTRY"
        ),
    ] = "mnist",
    mode: Mode = "standardize",
    per: Per = "channel",
    rescale: Rescale = False,
    val_fraction: ValFraction = 0.0,
    split_seed: SplitSeed = 0,
    dtype: Dtype = "float32",
    compression: Compression = "none",
    shard_rows: ShardRows = None,
    source: SourceDir = None,
    mirror: Mirror = None,
    offline: Offline = None,
    size: Size = None,
    color: Color = None,
    test_fraction: TestFraction = None,
    on_error: OnError = None,
    images_key: ImagesKey = None,
    labels_key: LabelsKey = None,
    workers: Workers = 1,
    scheduler: Scheduler = None,
    force: Force = False,
    cache_dir: CacheDir = None,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 5,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the weights and the order of the images.")] = 0,
    steps_per_execution: Annotated[
        int, typer.Option(help="Steps between returns to Python; changes only the speed.")
    ] = 32,
    model: Annotated[
        str | None,
        typer.Option(
            help="Function that is given the input shape and the number of classes and returns"
            " a Keras model (default: the reference CNN).",
            metavar="MODULE:FUNCTION",
        ),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the run (default: a new one below runs/).", metavar="DIR"),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Go on with an unfinished run, of which dataset and options are known.",
            metavar="RUN",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train the CNN on a prepared dataset, preparing it first if needed; then evaluate it."""
    _messages(quiet)
    from pixelprep.train import resume as resume_training

    # An option that was not given asks for nothing, also of an entry or of an unfinished run.
    options = [name for name in context.params if name not in ("resume", "as_json")]
    asked = {name: context.params[name] for name in options if _was_given(context, name)}
    try:
        with contextlib.redirect_stdout(sys.stderr):  # a model of the user's own may print
            metrics = resume_training(resume, **asked) if resume else _train_anew(dataset, asked)
    except KeyboardInterrupt as error:  # Typer would forget the way to go on
        _fail("interrupted", _way_on(error), INTERRUPTED)
    _show(metrics, as_json, _print_trained)


def _train_anew(dataset: str, asked: dict[str, Any]) -> dict[str, Any]:
    from pixelprep.preparation import obtain
    from pixelprep.train import Settings, require_tensorflow
    from pixelprep.train import train as train_model

    own = ("epochs", "batch_size", "seed", "steps_per_execution", "model", "run_dir", "quiet")
    settings = Settings(**{name: asked[name] for name in own if name in asked})
    require_tensorflow()
    options = {name: asked[name] for name in asked if name not in (*own, "dataset")}
    return train_model(obtain(dataset, **options, quiet=settings.quiet), settings)


def _was_given(context: typer.Context, name: str) -> bool:
    """Whether an option was on the command line or in the environment."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


@app.command()
def datasets(as_json: Json = False) -> None:
    """The datasets known by name."""
    from pixelprep.sources import KNOWN, plugins

    listed = [known.summary() for known in KNOWN.values()]
    brought = [{"name": name, "from": point.value} for name, point in plugins().items()]
    _show({"datasets": listed, "plugins": brought}, as_json, _print_datasets)


@app.command()
def info(
    entry: Annotated[
        str, typer.Argument(help="A folder, a key, or DATASET/MODE-KEY.", metavar="ENTRY")
    ],
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """What is in a prepared entry; its files are checked on the way."""
    import pixelprep

    found = pixelprep.open(entry, cache_dir=cache_dir)
    _show({"path": str(found.path), **found.manifest}, as_json, lambda _: _print_info(found))


def _messages(quiet: bool) -> None:
    """Send the library's messages to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("pixelprep")
    log.handlers = [handler]
    log.setLevel(logging.WARNING if quiet else logging.INFO)


def _show(result: dict[str, Any], as_json: bool, table: Callable[[dict[str, Any]], None]) -> None:
    if as_json:
        typer.echo(json.dumps(result, ensure_ascii=False, allow_nan=False))
    else:
        table(result)


def _prepared(entry: "Entry", seconds: float) -> dict[str, Any]:
    kept = ("rows", "shape", "dtype", "bytes", "first_batch", "raw")
    scaling = entry.manifest["scaling"]
    return {
        "dataset": entry.dataset,
        "mode": entry.mode,
        "per": entry.per,
        "key": entry.key,
        "path": str(entry.path),
        "hit": entry.hit,
        "seconds": seconds,
        "scaling": {name: scaling[name] for name in ("mean", "std", "scale", "offset")},
        "splits": {
            name: {field: entry.manifest["splits"][name][field] for field in kept}
            for name in entry.splits
        },
    }


def _print_prepared(entry: "Entry", seconds: float) -> None:
    _print_entry(entry)
    done = "was there already" if entry.hit else f"prepared in {seconds:.1f} s"
    typer.echo(f"{entry.path}\n{_size(entry.size)}, {done}")


def _print_info(entry: "Entry") -> None:
    _print_entry(entry)
    about = entry.manifest["provenance"]
    typer.echo(f"data      {about['title']}; licence {about['licence']}")
    for name in ("citation", "homepage"):
        if about[name]:
            typer.echo(f"          {about[name]}")
    typer.echo(f"classes   {', '.join(entry.class_names)}")
    recipe = ", ".join(f"{k} {v}" for k, v in entry.manifest["recipe"].items() if v is not None)
    typer.echo(f"recipe    {recipe}")
    typer.echo(f"{entry.path}\n{_size(entry.size)}, every file as it was when last checked")


def _print_entry(entry: "Entry") -> None:
    scaling = entry.scaling
    typer.echo(f"{entry.dataset}, {entry.mode} per {entry.per}, key {entry.key}")
    units = f" (of pixels divided by {scaling.unit})" if scaling.unit != 1 else ""
    for name, values in (("mean", scaling.mean), ("std", scaling.std)):
        typer.echo(f"{name:<9} {_numbers(values)}{units}")
    rows: list[tuple[str, ...]] = [
        ("", "images", "shape", "type", "raw", "stored min", "max", "mean", "std")
    ]
    for name, split in entry.splits.items():
        record = entry.manifest["splits"][name]
        first, raw = record["first_batch"], record["raw"]
        figures = [f"{first[f]:.6g}" for f in ("min", "max", "mean", "std")]
        shape = "×".join(map(str, split.shape[1:]))
        limits = f"{raw['minimum']:.6g} to {raw['maximum']:.6g}"
        rows.append((name, f"{len(split):,}", shape, str(split.dtype), limits, *figures))
    _table(rows)
    batch = entry.manifest["splits"]["train"]["first_batch"]["shape"][0]
    typer.echo(f"(stored: of the first batch of {batch}, read back from the file)")


def _numbers(values: Any) -> str:
    """Few numbers in full; many by their range; none where each image has its own."""
    if values.size == 0:
        return "each image's own"
    if values.size <= 4:
        return ", ".join(repr(float(value)) for value in values.reshape(-1))
    return f"{values.size} values, {values.min():.6g} to {values.max():.6g}"


def _print_trained(metrics: dict[str, Any]) -> None:
    typer.echo(
        f"test accuracy {metrics['test_accuracy']:.2%}, loss {_decimal(metrics['test_loss'])}"
        f" ({metrics['test_steps']} steps)"
    )
    typer.echo(
        f"{metrics['seconds_per_epoch']:.1f} s an epoch of {metrics['steps_per_epoch']} steps"
    )
    typer.echo(metrics["run"])


def _decimal(number: float | None) -> str:
    return "not finite" if number is None else f"{number:.4f}"


def _print_datasets(found: dict[str, Any]) -> None:
    rows: list[tuple[str, ...]] = [
        ("name", "train", "test", "shape", "classes", "download", "licence", "what it is")
    ]
    for one in found["datasets"]:
        shape = "×".join(map(str, one["shape"]))
        size = _size(one["download_bytes"]) if one["download_bytes"] else "embedded"
        counts = (f"{one['train']:,}", f"{one['test']:,}", shape, str(one["classes"]))
        rows.append((one["name"], *counts, size, one["licence"], one["title"]))
    _table(rows)
    for plugin in found["plugins"]:
        typer.echo(f"{plugin['name']}  from {plugin['from']}")


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        typer.echo("  ".join(cells).rstrip())


def _size(count: int) -> str:
    size = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def main() -> NoReturn:
    """Run the command line; every failure is one line and, where there is a way out, a hint."""
    if sys.stderr is None:  # closed by who started us; messages go nowhere, and never into a file
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for as long as we run
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        code = app(arguments, prog_name="pixelprep", standalone_mode=False)
    except Exception as error:
        if debug:
            traceback.print_exc()
        _fail(*_explained(error))
    if code == INTERRUPTED:  # Typer turns Ctrl-C into this
        _fail("interrupted", None, INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _explained(error: Exception) -> tuple[str, str | None, int]:
    """Message, hint and exit status of an error."""
    way_on = _way_on(error)
    if isinstance(error, PixelprepError):
        hint = ", then ".join(filter(None, (error.hint, way_on)))
        return error.message, hint, 2 if isinstance(error, UsageError) else 1
    if hasattr(error, "format_message"):  # Typer's own: wrong usage
        return _wrong_usage(error)
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror or error}", way_on, 1
    hint = f"{way_on} --debug" if way_on else "run again with --debug for the traceback"
    return f"{type(error).__name__}: {error}", hint, 1


def _way_on(error: BaseException) -> str | None:
    """The command that goes on with what this error broke off."""
    notes = getattr(error, "__notes__", [])
    return next((note for note in notes if note.startswith("pixelprep ")), None)


def _wrong_usage(error: Any) -> tuple[str, str | None, int]:
    """Typer's own errors, with the nearest command or option where a name is wrong."""
    import difflib
    import re

    message = re.split(r" \(Possible| Did you mean", error.format_message())[0].rstrip(".")
    context = getattr(error, "ctx", None)
    if context is None:
        return message[:1].lower() + message[1:], "pixelprep --help", 2
    known = list(getattr(context.command, "commands", {}))
    known += [name for parameter in context.command.params for name in parameter.opts]
    wrong = re.match(r"No such (?:option: |command ')([^']+)", message)
    near = difflib.get_close_matches(wrong[1], known, n=1) if wrong else []
    hint = f"did you mean '{near[0]}'?" if near else f"{context.command_path} --help"
    return message[:1].lower() + message[1:], hint, 2


def _fail(message: str, hint: str | None, code: int) -> NoReturn:
    typer.echo(f"error: {' '.join(message.split())}", err=True)
    if hint:
        typer.echo(f"hint: {hint}", err=True)
    sys.exit(code)
