"""The options that commands share: names, types and help."""

import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

Command = TypeVar("Command", bound=Callable[..., None])


def one_of(values: str, help: str) -> Any:
    """An option with a few values, which a shell completes."""

    def completed(incomplete: str) -> list[str]:
        return [value for value in values.split("|") if value.startswith(incomplete)]

    return typer.Option(help=help, metavar=values, autocompletion=completed)


Mode = Annotated[
    str,
    one_of(
        "normalize|center|standardize",
        "The scaling: to 0 to 1; to mean 0; to mean 0 and variance 1.",
    ),
]
Per = Annotated[
    str,
    one_of(
        "dataset|channel|pixel|image",
        "One statistic for all pixels, or for those of each channel, of each place, of each image.",
    ),
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
Dtype = Annotated[str, one_of("float32|float16", "Stored type.")]
Compression = Annotated[str, one_of("none|gzip|lzf|lz4|zstd", "Of the stored images.")]
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
Color = Annotated[str | None, one_of("grey|rgb", "Turn the images of a folder into these.")]
TestFraction = Annotated[
    float | None,
    typer.Option(
        help="Share of every class that becomes the test split, where there is none.", metavar="F"
    ),
]
OnError = Annotated[
    str | None,
    one_of(
        "fail|skip",
        "A damaged image of a folder stops all (fail), or is left out and listed (skip).",
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
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No bars, no messages; results only.")]


Dataset = Annotated[
    str,
    typer.Argument(
        help="A known name (see `pixelprep datasets`) or a path, ./digits.", metavar="DATASET"
    ),
]
EntryName = Annotated[
    str,
    typer.Argument(
        help="A folder, a key (or its beginning), DATASET/MODE-KEY, or a dataset with one entry.",
        metavar="ENTRY",
    ),
]
RunDir = Annotated[Path, typer.Argument(help="Folder of a finished run.", metavar="RUN")]

# What chooses an entry, and says where its raw data is and how it is prepared: option and default.
PREPARE_OPTIONS: dict[str, tuple[Any, Any]] = {
    "mode": (Mode, "standardize"),
    "per": (Per, "channel"),
    "rescale": (Rescale, False),
    "val_fraction": (ValFraction, 0.0),
    "split_seed": (SplitSeed, 0),
    "dtype": (Dtype, "float32"),
    "compression": (Compression, "none"),
    "shard_rows": (ShardRows, None),
    "source": (SourceDir, None),
    "mirror": (Mirror, None),
    "offline": (Offline, None),
    "size": (Size, None),
    "color": (Color, None),
    "test_fraction": (TestFraction, None),
    "on_error": (OnError, None),
    "images_key": (ImagesKey, None),
    "labels_key": (LabelsKey, None),
    "workers": (Workers, 1),
    "scheduler": (Scheduler, None),
    "force": (Force, False),
    "cache_dir": (CacheDir, None),
}


def with_prepare_options(command: Command, without: Collection[str] = ()) -> Command:
    """Let a command have the options of `SHARED`, or most, in place of its ``**choices``."""
    choices = {name: choice for name, choice in PREPARE_OPTIONS.items() if name not in without}
    signature = inspect.signature(command)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    shared = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option)
        for name, (option, default) in choices.items()
    ]
    first = [one for one in own if one.kind is not one.KEYWORD_ONLY]
    parameters = [*first, *shared, *own[len(first) :]]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ |= {name: option for name, (option, _) in choices.items()}
    return command
