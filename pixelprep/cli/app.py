"""Parse the command line, make one call of the library, print; nothing else.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.
"""

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any  # Any: options of `prepare`

import typer
from typer import Option

import pixelprep
from pixelprep.cli import output
from pixelprep.cli.main import INTERRUPTED, fail, messages, run_prepare, spelled
from pixelprep.cli.main import main as main  # what starts the command line
from pixelprep.cli.options import (
    CacheDir,
    Dataset,
    DryRun,
    EntryName,
    Json,
    MaxSize,
    Quiet,
    RemoteUrl,
    RunDir,
    ValFraction,
    Yes,
    argument,
    entry_names,
    one_of,
    option,
    with_prepare_options,
)
from pixelprep.errors import (
    UsageError,
    attach_resume_command,
    resume_command,
)
from pixelprep.exporters import format_names
from pixelprep.format.options import (
    PREPARE_OPTIONS,
    READING,
    SCALING_OPTIONS,
    ReadOptions,
    declared_options,
)
from pixelprep.numerics.modes import plain_modes
from pixelprep.system import formatting
from pixelprep.training import MODEL_FORMATS

if TYPE_CHECKING:
    from pixelprep.cache import CacheItem
    from pixelprep.pipeline.verify import VerifyResult

OUT = ("--out", "-o")
SAME_AGAIN = "give the same command again: what is finished stays"

app = typer.Typer(
    name="pixelprep",
    help="Image datasets scaled once, exactly, and reused anywhere.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)

cache_app = typer.Typer(help="Look into the cache, and delete from it.")
app.add_typer(cache_app, name="cache")


remote_app = typer.Typer(help="Look into a remote, and delete from it.")
app.add_typer(remote_app, name="remote")


@app.callback(invoke_without_command=True)
def _pixelprep(
    context: typer.Context,
    debug: Annotated[bool, Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, Option("--version", help="Print the version and exit.", is_eager=True)
    ] = False,
) -> None:
    if version:
        typer.echo(f"pixelprep {pixelprep.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
@with_prepare_options
def prepare(
    dataset: Dataset = "mnist", *, as_json: Json = False, quiet: Quiet = False, **choices: Any
) -> None:
    """Scale a dataset and store it as HDF5, once. A second call finds it there."""
    run_prepare(dataset, as_json, quiet, **choices)


@app.command()
@with_prepare_options
def train(
    context: typer.Context,
    dataset: Annotated[
        str, argument("A known name, a path to images, or an entry.", "DATASET|ENTRY")
    ] = "mnist",
    *,
    epochs: Annotated[int, option("Passes over the training images.")] = 5,
    batch_size: Annotated[int, option("Batch size.")] = 64,
    seed: Annotated[int, option("Seed of the weights and of the order of images.")] = 0,
    steps_per_execution: Annotated[
        int, option("Steps between returns to Python; changes only the speed.")
    ] = 32,
    model: Annotated[
        str | None,
        option(
            "Function that is given the input shape and the number of classes and returns"
            " a Keras model (default: the reference CNN); or a finished run, to train further.",
            "MODULE:FUNCTION|RUN",
        ),
    ] = None,
    early_stopping: Annotated[
        int | None,
        option(
            "Stop when the validation loss has not improved for so many epochs; the best"
            " epoch's model is kept (needs --val-fraction).",
            "N",
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None, option("Write event files for TensorBoard to DIR/RUN-NAME.", "DIR")
    ] = None,
    checkpoint_every: Annotated[
        str,
        option(
            "Epochs from one checkpoint to the next; or steps, within an epoch too: 500steps.",
            "N|Nsteps",
        ),
    ] = "1",
    class_weight: Annotated[
        str | None, option("Weigh classes in the loss by their size in train: balanced.", "KIND")
    ] = None,
    balance: Annotated[
        str | None,
        option("Train on as many images of each class as the largest has: oversample.", "KIND"),
    ] = None,
    augment: Annotated[
        str | None,
        option(
            "Function of (raw images, seed), or Keras layer, that changes training images before"
            " they are scaled.",
            "MODULE:NAME",
        ),
    ] = None,
    run_dir: Annotated[
        Path | None, option("Folder of the run (default: a new one below runs/).", "DIR")
    ] = None,
    resume: Annotated[
        Path | None,
        option("Resume an unfinished run, with its own dataset and options.", "RUN"),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    **choices: Any,
) -> None:
    """Train a CNN on a dataset, prepared first if needed. Then evaluate it."""
    messages(quiet)
    # Only what was given: an entry and an unfinished run have all else.
    given = _given(context, "resume", "as_json")
    try:
        # A model of the user's own may print.
        with contextlib.redirect_stdout(sys.stderr), _sigterm_as_ctrl_c():
            result = pixelprep.resume(resume, **given) if resume else pixelprep.train(**given)
    except KeyboardInterrupt as error:  # Typer would forget the way to go on
        fail("interrupted", resume_command(error), INTERRUPTED)
    output.show(result.to_dict(), as_json, lambda: output.print_trained(result))


@app.command()
@partial(with_prepare_options, without=("mode", "force", "scaling_of", *SCALING_OPTIONS))
def compare(
    context: typer.Context,
    dataset: Dataset = "mnist",
    *,
    modes: Annotated[
        str, option("Two or more; fixed with its preset: fixed:imagenet.", "MODE,MODE…")
    ] = ",".join(plain_modes()),
    repeats: Annotated[int, option("Runs of each mode; fewer than five rarely decide.", "N")] = 3,
    epochs: Annotated[int, option("Passes over the training images.")] = 5,
    batch_size: Annotated[int, option("Batch size.")] = 64,
    seed: Annotated[int, option("Seed of each mode's first run; then SEED + 1, …")] = 0,
    model: Annotated[
        str | None,
        option(
            "Function that returns the model, as for `train` (default: the reference CNN).",
            "MODULE:FUNCTION",
        ),
    ] = None,
    val_fraction: ValFraction = 0.1,
    out: Annotated[
        Path | None,
        option(
            "Folder of runs and page (default: compare-DATASET); goes on with its own.",
            "DIR",
            *OUT,
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    **choices: Any,
) -> None:
    """Compare scalings, with significance. The CNN is trained on each, with equal seeds."""
    messages(quiet)
    given = _given(context, "as_json")
    given["modes"] = [mode.strip() for mode in modes.split(",")]
    try:
        # A model of the user's own may print.
        with contextlib.redirect_stdout(sys.stderr), _sigterm_as_ctrl_c():
            result = pixelprep.compare(**given)
    except KeyboardInterrupt:  # which knows only of a single run
        fail("interrupted", SAME_AGAIN, INTERRUPTED)
    except Exception as error:
        if resume_command(error):
            attach_resume_command(error, SAME_AGAIN)
        raise
    output.show(result.to_dict(), as_json, lambda: output.print_compared(result))


@app.command()
@partial(with_prepare_options, without=PREPARE_OPTIONS.keys() - READING)
def evaluate(
    run: RunDir,
    entry: Annotated[
        str | None,
        argument(
            "An entry (default: the one trained on), or new data: ./photos.",
            "ENTRY|DATA",
            entry_names,
        ),
    ] = None,
    *,
    split: Annotated[
        str | None, one_of("test|val|train", "Split of the entry (default: test, else val).")
    ] = None,
    batch_size: Annotated[int, option("Batch size.")] = 64,
    cache_dir: CacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
    **choices: Any,
) -> None:
    """Evaluate a run's model on an entry or on new data.

    The model gets raw pixels, whatever the scaling of the entry; new data is prepared for it.
    """
    messages(quiet)
    options = {"batch_size": batch_size, "cache_dir": cache_dir, "quiet": quiet, **choices}
    scores = pixelprep.evaluate(run, entry, split=split, **options)
    output.show(scores.to_dict(), as_json, lambda: output.print_scores(scores, split is None))


@app.command()
def predict(
    run: RunDir,
    image: Annotated[list[Path], argument("Image files, or folders of them.", "IMAGE")],
    top: Annotated[int, option("Classes to print for each image.", "N")] = 3,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict the likeliest classes of images with a run's model."""
    messages(quiet)
    result = pixelprep.predict(run, image, top=top, quiet=quiet)
    output.show(result.to_dict(), as_json, lambda: output.print_predicted(result))


@app.command()
@partial(with_prepare_options, without=("force",))
def path(
    context: typer.Context,
    dataset: Dataset = "mnist",
    *,
    prepare: Annotated[bool, Option("--prepare", help="Prepare it if it is not yet.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **choices: Any,
) -> None:
    """Print the folder of a prepared entry, for scripts. Exit status 1 if there is none."""
    messages(quiet)
    if prepare:
        entry = pixelprep.prepare(dataset, quiet=quiet, **choices)
    else:
        from pixelprep.pipeline.prepare import find_meant  # which `--help` does without

        entry = find_meant(dataset, **_given(context, "dataset", "prepare", "as_json"))
    result = {"path": str(entry.path), "key": entry.key}
    output.show(result, as_json, lambda: typer.echo(result["path"]))


@app.command()
def datasets(as_json: Json = False) -> None:
    """List the datasets that are known by name."""
    known = pixelprep.datasets()
    output.show(known.to_dict(), as_json, lambda: output.print_datasets(known))


@app.command()
def info(entry: EntryName, cache_dir: CacheDir = None, as_json: Json = False) -> None:
    """Describe a prepared entry, and check its files."""
    opened = pixelprep.open(entry, cache_dir=cache_dir)
    about = pixelprep.cache.describe(opened, cache_dir=cache_dir)
    duplicates = [one.to_dict() for one in about.duplicates]
    result = {"path": str(opened.path), "origin": about.origin, "duplicates": duplicates}
    result |= {"files": about.files} | opened.manifest.to_dict()
    output.show(result, as_json, lambda: output.print_info(opened, about))


@app.command()
@partial(with_prepare_options, without=PREPARE_OPTIONS.keys() - declared_options(ReadOptions))
def stats(
    context: typer.Context,
    dataset: Annotated[
        str, argument("A known name, a path to images, or an entry.", "DATASET|ENTRY")
    ] = "mnist",
    *,
    paste: Annotated[
        str | None,
        one_of(
            "torchvision|keras|albumentations|timm|jax|numpy|all",
            "Print only lines of Python that standardize with a library, to be pasted: torchvision,"
            " keras, albumentations, timm, jax, numpy or all.",
            "LIBRARY",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    **choices: Any,
) -> None:
    """Measure a dataset: pixels, classes, sizes, duplicates. Nothing is stored."""
    messages(quiet)
    if paste not in (None, "all"):
        from pixelprep.reports.paste import check_library

        check_library(paste)  # before anything is read
    from pixelprep.reports.dataset_stats import stats_as_before  # which `--help` does without

    found = stats_as_before(dataset, **_given(context, "dataset", "paste", "as_json"))
    if paste:
        lines = "\n".join(found.pasted().values()) if paste == "all" else found.paste(paste)
        output.show(found.to_dict(), as_json, lambda: typer.echo(lines, nl=False))
    else:
        output.show(found.to_dict(), as_json, lambda: output.print_stats(found))


@app.command()
def report(
    entry: EntryName,
    out: Annotated[
        Path | None,
        option("The file, or a folder for it (default: DATASET-MODE-KEY.html here).", "PATH", *OUT),
    ] = None,
    format: Annotated[str, one_of("html|json", "A page, or its figures as JSON.")] = "html",
    open_it: Annotated[bool, Option("--open", help="Show it in the browser.")] = False,
    cache_dir: CacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a page on an entry. What its data is and what scaling made of it, in pictures."""
    messages(quiet)
    done = pixelprep.report(entry, out, format=format, cache_dir=cache_dir, quiet=quiet)
    output.show(
        done.to_dict(), as_json, lambda: output.say(str(done.path), output.size(done.bytes))
    )
    if open_it:
        import webbrowser

        if not webbrowser.open(done.path.as_uri()):
            logging.getLogger("pixelprep").warning("no browser found to show it in")


@app.command()
def verify(
    entry: Annotated[
        list[str] | None,
        argument("Folders, keys, DATASET/MODE-KEY, or datasets.", "ENTRY", entry_names),
    ] = None,
    every: Annotated[bool, Option("--all", help="All entries of the cache.")] = False,
    repair: Annotated[
        bool, Option("--repair", help="Make what is broken again, from its raw data.")
    ] = False,
    cache_dir: CacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Re-read whole entries and check digests, format and statistics."""
    messages(quiet)

    def with_options(result: "VerifyResult") -> "VerifyResult":
        return replace(result, problems=tuple(spelled(line) for line in result.problems))

    def print_result(result: "VerifyResult") -> None:
        if not as_json:  # one by one: all may take hours
            output.print_verified(with_options(result))

    results = pixelprep.verify(
        *(entry or ()),
        every=every,
        repair=repair,
        on_result=print_result,
        cache_dir=cache_dir,
        quiet=quiet,
    )
    listed = {"entries": [with_options(result).to_dict() for result in results]}
    output.show(listed, as_json, lambda: None if results else output.say("no entries"))
    damaged = sum(not result.ok and result.checked for result in results)
    counts = {"damaged": damaged, "not checked": sum(not result.checked for result in results)}
    if parts := [f"{count} {what}" for what, count in counts.items() if count]:
        entries = formatting.pluralize(len(results), "entry", "entries")
        hint = "rebuild those of the cache from their raw data with --repair"
        fail(f"of {entries}, {' and '.join(parts)}", None if repair or not damaged else hint, 1)


@app.command()
def doctor(cache_dir: CacheDir = None, as_json: Json = False) -> None:
    """Examine installation, machine and cache. Exit status 1 if there is a problem."""
    from pixelprep.cli.diagnosis import print_diagnosis

    messages(quiet=True)
    with _sigterm_as_ctrl_c():
        found = pixelprep.doctor(cache_dir=cache_dir)
    output.show(found.to_dict(), as_json, lambda: print_diagnosis(found))
    if not found.ok:
        raise typer.Exit(1)


@app.command()
def export(
    entry: Annotated[
        str,
        argument(
            "An entry, as for `info`; for a model's format a finished run.",
            "ENTRY|RUN",
            entry_names,
        ),
    ],
    directory: Annotated[
        Path | None,
        argument("Folder to be made, new or empty (of a run by default: RUN/FORMAT).", "DIR"),
    ] = None,
    *,
    to: Annotated[
        str,
        one_of(
            "|".join([*format_names(), *MODEL_FORMATS]),
            f"The new format: of an entry {', '.join(format_names())}; of a run's model for raw"
            f" pixels {', '.join(MODEL_FORMATS)}.",
            "FORMAT",
        ),
    ],
    out: Annotated[Path | None, option("The same folder.", "DIR", *OUT)] = None,
    cache_dir: CacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write an entry, or a run's model, in another format.

    It is read back. png, parquet and webdataset have the raw pixels. A model is compared with
    serving.keras in its own runtime.
    """
    messages(quiet)
    given = [folder for folder in (directory, out) if folder is not None]
    if to in MODEL_FORMATS and not given:
        given = [Path(entry, to)]
    if len(given) != 1:
        raise UsageError("export: expected one folder, DIR or --out", "pixelprep export --help")
    folder = given[0]
    if to in MODEL_FORMATS:
        with contextlib.redirect_stdout(sys.stderr):  # converters may print
            model = pixelprep.export_model(entry, folder, to, cache_dir=cache_dir, quiet=quiet)
        output.show(model.to_dict(), as_json, lambda: output.print_exported_model(model))
        return
    done = pixelprep.export(entry, folder, to, cache_dir=cache_dir, quiet=quiet, digests=as_json)
    files = f"{formatting.pluralize(len(done.files), 'file')}, {output.size(done.bytes)}"
    made = f"{files}, written and checked in {done.seconds:.1f} s"
    output.show(done.to_dict(), as_json, lambda: output.say(str(done.path), made))


@app.command()
def push(
    entry: EntryName,
    url: RemoteUrl = None,
    force: Annotated[
        bool, Option("--force", "-f", help="Also where other bytes of the same recipe are.")
    ] = False,
    cache_dir: CacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Publish an entry in a remote, from where others pull it."""
    messages(quiet)
    done = pixelprep.push(entry, url, force=force, cache_dir=cache_dir, quiet=quiet)
    sent = f"{formatting.pluralize(done.files, 'file')}, {output.size(done.bytes)}, pushed"
    text = "was there" if done.present else sent
    output.show(done.to_dict(), as_json, lambda: output.say(done.url, text))


@app.command()
def pull(
    name: Annotated[
        str, argument("A URL, DATASET/MODE-KEY, a key, or a dataset with one entry.", "URL|NAME")
    ],
    url: Annotated[
        str | None,
        Option("--from", help="The remote that has it.", metavar="URL", envvar="PIXELPREP_REMOTE"),
    ] = None,
    cache_dir: CacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy an entry of a remote into the cache. Every byte is digested on the way."""
    messages(quiet)
    entry = pixelprep.pull(name, remote=url, cache_dir=cache_dir, quiet=quiet)
    result = {"path": str(entry.path), "key": entry.key, "hit": entry.cached, "bytes": entry.size}
    text = f"{output.size(entry.size)}, {'was here' if entry.cached else 'pulled'}"
    output.show(result, as_json, lambda: output.say(str(entry.path), text))


@remote_app.command("list", hidden=True)
@remote_app.command("ls")
def remote_ls(url: RemoteUrl = None, as_json: Json = False) -> None:
    """List the entries of a remote."""
    items = pixelprep.cache.list_remote(url)
    result = {"entries": [item.to_dict() for item in items]}
    output.show(result, as_json, lambda: output.print_remote(items))


@remote_app.command("du")
def remote_du(url: RemoteUrl = None, as_json: Json = False) -> None:
    """Print how many bytes each dataset has in a remote."""
    totals = dict[str, int]()
    for item in pixelprep.cache.list_remote(url):
        dataset = item.name.split("/")[0]
        totals[dataset] = totals.get(dataset, 0) + item.bytes
    lines = [f"{output.size(count)}  {name}" for name, count in totals.items()]
    total = sum(totals.values())
    result = {"datasets": totals, "bytes": total}
    output.show(result, as_json, lambda: output.say(*lines, f"{output.size(total)} in all"))


@remote_app.command("prune")
def remote_prune(
    url: RemoteUrl = None,
    older_than: Annotated[
        str | None, option("Entries pushed longer ago than this: 12h, 30d, 1y; alone, days.", "AGE")
    ] = None,
    max_size: MaxSize = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Delete from a remote broken pushes and, if asked, entries pushed longest ago."""
    messages(quiet=False)
    prune = partial(pixelprep.cache.prune_remote, url, older_than=older_than, max_size=max_size)
    items = prune(dry_run=True)
    if not as_json:
        output.print_remote(items)
    if not dry_run and items:
        _ask_unless_json(yes, as_json, len(items))
        items = prune()
    total = sum(item.bytes for item in items)
    result = {"dry_run": dry_run, "entries": [item.to_dict() for item in items], "bytes": total}
    text = "nothing deleted" if dry_run or not items else f"deleted {output.size(total)}"
    output.show(result, as_json, lambda: output.say(text))


@cache_app.callback(invoke_without_command=True)
def _cache(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@cache_app.command("ls", hidden=True)
@cache_app.command("list")
def cache_list(cache_dir: CacheDir = None, as_json: Json = False) -> None:
    """List entries, raw downloads, and what is left over."""
    items = pixelprep.cache.list(cache_dir=cache_dir)
    folder = str(pixelprep.cache.path(cache_dir=cache_dir))
    total = sum(item.bytes for item in items)
    result = {"cache": folder, **output.group_by_kind(items), "bytes": total}
    shown = [item for item in items if item.kind != "metadata"]
    output.show(result, as_json, lambda: output.print_cache(shown))


@cache_app.command("path")
def cache_path(cache_dir: CacheDir = None, as_json: Json = False) -> None:
    """Print where the cache folder is."""
    folder = str(pixelprep.cache.path(cache_dir=cache_dir))
    output.show({"cache": folder}, as_json, lambda: typer.echo(folder))


@cache_app.command("rm", hidden=True)
@cache_app.command("remove")
def cache_remove(
    entry: Annotated[
        list[str],
        argument(
            "Folders, keys, DATASET/MODE-KEY; or a dataset, its downloads too.",
            "ENTRY",
            entry_names,
        ),
    ],
    yes: Yes = False,
    dry_run: DryRun = False,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """Delete entries, or all there is of a dataset."""
    messages(quiet=False)
    items = pixelprep.cache.remove(*entry, dry_run=True, cache_dir=cache_dir)
    _remove(items, yes, dry_run, cache_dir, as_json)


@cache_app.command("prune")
def cache_prune(
    older_than: Annotated[
        str | None,
        option("Also entries last used longer ago than this: 12h, 30d, 1y; alone, days.", "AGE"),
    ] = None,
    keep: Annotated[
        int | None, option("Never the N entries used last (alone: all but these).", "N")
    ] = None,
    max_size: MaxSize = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """Delete leftovers and, if asked, entries not used lately."""
    messages(quiet=False)
    items = pixelprep.cache.prune(
        older_than, keep, max_size=max_size, dry_run=True, cache_dir=cache_dir
    )
    is_rubbish = all(item.kind in ("leftover", "metadata") for item in items)
    yes = yes or (is_rubbish and not sys.stdin.isatty())  # as in a nightly job
    _remove(items, yes, dry_run, cache_dir, as_json, unless_used=True)


def _remove(
    items: "tuple[CacheItem, ...]",
    yes: bool,
    dry_run: bool,
    cache_dir: Path | None,
    as_json: bool,
    unless_used: bool = False,
) -> None:
    """Show what is to be deleted, ask, and delete it."""
    kept = 0
    if not as_json:
        output.print_cache(items)
    if not dry_run and items:
        _ask_unless_json(yes, as_json, len(items))
        removed = pixelprep.cache.remove(*items, unless_used=unless_used, cache_dir=cache_dir)
        kept, items = len(items) - len(removed), removed
    total = sum(item.bytes for item in items)
    result = {"dry_run": dry_run, **output.group_by_kind(items), "bytes": total}
    text = "nothing deleted" if dry_run or not items else f"deleted {output.size(total)}"
    text += f"; kept {kept} (in use or not deletable)" if kept else ""
    output.show(result, as_json, lambda: output.say(text))


def _ask_unless_json(yes: bool, as_json: bool, count: int) -> None:
    if as_json and not yes:
        fail("nothing deleted: --json does not ask", "add --yes, or --dry-run", 1)
    _ask(yes, f"delete {f'these {count}' if count > 1 else 'it'} for good?")


def _ask(yes: bool, question: str) -> None:
    """Continue only with a yes, from the command line or from a person."""
    if yes:
        return
    if not sys.stdin.isatty():
        fail("nothing deleted: stdin is not a terminal", "add --yes, or --dry-run", 1)
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        typer.echo(err=True)  # the question's line is not ended
        fail("interrupted; nothing deleted", None, INTERRUPTED)
    if not agreed:
        output.say("nothing deleted", err=True)
        raise typer.Exit(1)


def _given(context: typer.Context, *without: str) -> dict[str, Any]:
    """Return the parameters that were given, not left to their defaults."""
    return {
        name: value
        for name, value in context.params.items()
        if name not in without
        and (origin := context.get_parameter_source(name))
        and origin.name != "DEFAULT"
    }


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Let SIGTERM, which schedulers send, end training as Ctrl-C does; not in its workers."""
    process = os.getpid()

    def interrupt(number: int, frame: object) -> None:
        if os.getpid() == process:
            raise KeyboardInterrupt
        os._exit(128 + number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
