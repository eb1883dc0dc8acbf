"""Declare the options that commands share; those of `prepare` follow from `format.options`."""

import glob
import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, TypeVar  # Any: what Typer's functions return

import typer

from pixelprep.cli.main import SHORT, cli_type
from pixelprep.format.options import PREPARE_OPTIONS, PrepareOptions

Command = TypeVar("Command", bound=Callable[..., None])


def argument(help: str, metavar: str, completion: Callable[[str], list[str]] | None = None) -> Any:
    return typer.Argument(help=help, metavar=metavar, autocompletion=completion)


def entry_names(incomplete: str) -> list[str]:
    """Return the entries of the cache whose names begin so."""
    from pixelprep.cache.entries import entry_paths
    from pixelprep.system.fs import cache_dir

    names = (f"{path.parent.name}/{path.name}" for path in entry_paths(cache_dir(None)))
    return [name for name in names if name.startswith(incomplete)]


def dataset_names(incomplete: str) -> list[str]:
    """Return the known names that begin so, and the paths."""
    from pixelprep.sources import REGISTRY

    names = [name for name in REGISTRY if name.startswith(incomplete)]
    if "/" not in incomplete:
        return names
    paths = glob.glob(f"{glob.escape(incomplete)}*")  # noqa: PTH207 - pathlib drops the ./ in front
    return names + sorted(paths)


def option(help: str, metavar: str | None = None, *flags: str) -> Any:
    return typer.Option(*flags, help=help, metavar=metavar)


def one_of(values: str, help: str, metavar: str | None = None) -> Any:
    completion = _completion(values.split("|"))
    return typer.Option(help=help, metavar=metavar or values, autocompletion=completion)


def prepare_option(name: str) -> Any:
    """Return the option of `prepare` that is declared by this name."""
    declared = PREPARE_OPTIONS[name]
    flags = [f"--{name.replace('_', '-')}", *filter(None, [SHORT.get(name)])]
    return typer.Option(
        *flags,
        help=declared.help,
        metavar=declared.metavar or "|".join(declared.choices) or None,
        envvar=declared.env,
        autocompletion=_completion(declared.choices),
    )


def _completion(values: Collection[str]) -> Callable[[str], list[str]] | None:
    if not values:
        return None
    return lambda incomplete: [value for value in values if value.startswith(incomplete)]


ValFraction = Annotated[float, prepare_option("val_fraction")]
CacheDir = Annotated[Path | None, prepare_option("cache_dir")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be deleted.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Quiet = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No bars; messages only of what was guessed or left out."),
]
Dataset = Annotated[
    str,
    argument(
        "A known name (see `pixelprep datasets`), a path, ./digits; a URL; of another library:"
        " hf:OWNER/NAME, torchvision:NAME, tfds:NAME, sklearn:NAME.",
        "DATASET",
        dataset_names,
    ),
]
EntryName = Annotated[
    str,
    argument(
        "A folder, a key (or its beginning), DATASET/MODE-KEY, or a dataset with one entry.",
        "ENTRY",
        entry_names,
    ),
]
RemoteUrl = Annotated[
    str | None,
    typer.Argument(
        help="The remote: s3://BUCKET/PATH, any other URL of fsspec's, or a folder.",
        metavar="URL",
        envvar="PIXELPREP_REMOTE",
    ),
]
MaxSize = Annotated[
    str | None,
    option("Entries, the oldest in use first, until the rest is no larger: 50GB, 50GiB.", "SIZE"),
]
RunDir = Annotated[Path, argument("Folder of a finished run.", "RUN")]


def with_prepare_options(command: Command, without: Collection[str] = ()) -> Command:
    """Give a command the options of `prepare`, but for its own, in place of its ``**choices``."""
    signature = inspect.signature(command)
    own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    names = [n for n in PREPARE_OPTIONS if n not in without and n not in signature.parameters]
    shared = []
    for name in names:
        default = getattr(PrepareOptions, name)
        kind = cli_type(name) if default is not None else cli_type(name) | None
        annotation = Annotated[kind, prepare_option(name)]  # type: ignore[valid-type] # made here
        parameter = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        shared.append(parameter.replace(annotation=annotation))
    first = [one for one in own if one.kind is not one.KEYWORD_ONLY]
    parameters = [*first, *shared, *own[len(first) :]]
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    command.__annotations__ |= {one.name: one.annotation for one in shared}
    return command
