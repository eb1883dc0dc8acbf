"""Parse the command line, make one call of the library, print; nothing else.

Nothing heavy is imported before a command needs it, so that ``--help`` answers at once.
"""

import contextlib
import logging
import os
import re
import sys
import time
import traceback
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from pixelprep._version import __version__
from pixelprep.cli import output
from pixelprep.cli.options import (
    CacheDir,
    Dataset,
    DryRun,
    EntryName,
    Json,
    Quiet,
    RunDir,
    ValFraction,
    Yes,
    one_of,
    with_prepare_options,
)
from pixelprep.cli.spelling import as_options
from pixelprep.errors import (
    PixelprepError,
    UsageError,
    attach_resume_command,
    resume_command,
)
from pixelprep.exporters import format_names
from pixelprep.numerics.modes import MODES
from pixelprep.system import formatting

if TYPE_CHECKING:
    from pixelprep.cache import CacheItem
    from pixelprep.pipeline.verify import VerifyResult


INTERRUPTED = 130
NAME = "[a-z-]+"  # of a command or an option
SAME_AGAIN = "run the same command again: what is finished stays"

app = typer.Typer(
    name="pixelprep",
    help="Image datasets scaled once, exactly, and reused anywhere.",
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)

cache_app = typer.Typer(help="Look into the cache, and delete from it.")
app.add_typer(cache_app, name="cache")


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
@with_prepare_options
def prepare(
    dataset: Dataset = "mnist",
    *,
    as_json: Json = False,
    quiet: Quiet = False,
    **choices: Any,
) -> None:
    """Scale a dataset and store it as HDF5, once. A second call finds it there."""
    _messages(quiet)
    import pixelprep

    started = time.perf_counter()
    entry = pixelprep.prepare(dataset, quiet=quiet, **choices)
    seconds = time.perf_counter() - started
    result = output.prepared(entry, seconds)
    output.show(result, as_json, lambda: output.print_prepared(entry, seconds))


@app.command()
@with_prepare_options
def train(
    context: typer.Context,
    dataset: Annotated[
        str,
        typer.Argument(
            help="A known name, a path to images, or an entry.", metavar="DATASET|ENTRY"
        ),
    ] = "mnist",
    *,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 5,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 64,
    seed: Annotated[
        int, typer.Option(help="Seed of the weights and of the order of the images.")
    ] = 0,
    steps_per_execution: Annotated[
        int, typer.Option(help="Steps between returns to Python; changes only the speed.")
    ] = 32,
    model: Annotated[
        str | None,
        typer.Option(
            help="Function that takes the input shape and the number of classes and returns"
            " a Keras model (default: the reference CNN); or a finished run, to train further.",
            metavar="MODULE:FUNCTION|RUN",
        ),
    ] = None,
    early_stopping: Annotated[
        int | None,
        typer.Option(
            help="Stop when the validation loss has not improved for so many epochs; the best"
            " epoch's model is kept (needs --val-fraction).",
            metavar="N",
        ),
    ] = None,
    tensorboard: Annotated[
        Path | None,
        typer.Option(help="Write event files for TensorBoard to DIR/RUN-NAME.", metavar="DIR"),
    ] = None,
    checkpoint_every: Annotated[
        int,
        typer.Option(
            help="Epochs from one checkpoint to the next; the last always has one.", metavar="N"
        ),
    ] = 1,
    run_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of the run (default: a new one below runs/).", metavar="DIR"),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            help="Continue an unfinished run; dataset and options are those of the run.",
            metavar="RUN",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    **choices: Any,
) -> None:
    """Train a CNN on a dataset, prepared first if needed. Then evaluate it."""
    _messages(quiet)
    import pixelprep

    # Only what was given: an entry and an unfinished run have all else.
    names = context.params.keys() - {"resume", "as_json"}
    given = {name: context.params[name] for name in names if _was_given(context, name)}
    try:
        with contextlib.redirect_stdout(sys.stderr):  # a model of the user's own may print
            result = pixelprep.resume(resume, **given) if resume else pixelprep.train(**given)
    except KeyboardInterrupt as error:  # Typer would forget the way to go on
        _fail("interrupted", resume_command(error), INTERRUPTED)
    output.show(result.to_dict(), as_json, lambda: output.print_trained(result))


@app.command()
@partial(with_prepare_options, without=("mode", "force"))
def compare(
    dataset: Dataset = "mnist",
    *,
    modes: Annotated[
        str, typer.Option(help="Two or more, with commas between.", metavar="MODE,MODE…")
    ] = ",".join(MODES),
    repeats: Annotated[
        int, typer.Option(help="Runs of each mode; fewer than five tell little.", metavar="N")
    ] = 3,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 5,
    batch_size: Annotated[int, typer.Option(help="Images a step.")] = 64,
    seed: Annotated[
        int, typer.Option(help="Seed of the first run of each mode; then SEED + 1, …")
    ] = 0,
    model: Annotated[
        str | None,
        typer.Option(
            help="Function that returns the model, as for `train` (default: the reference CNN).",
            metavar="MODULE:FUNCTION",
        ),
    ] = None,
    val_fraction: ValFraction = 0.1,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder of runs and page (default: compare-DATASET); continues its own.",
            metavar="DIR",
        ),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    **choices: Any,
) -> None:
    """Compare scalings, with significance. The CNN is trained on each, with equal seeds."""
    _messages(quiet)
    import pixelprep

    try:
        with contextlib.redirect_stdout(sys.stderr):  # a model of the user's own may print
            result = pixelprep.compare(
                dataset,
                modes=[mode.strip() for mode in modes.split(",")],
                repeats=repeats,
                epochs=epochs,
                batch_size=batch_size,
                seed=seed,
                model=model,
                val_fraction=val_fraction,
                out=out,
                quiet=quiet,
                **choices,
            )
    except KeyboardInterrupt:  # which knows only of a single run
        _fail("interrupted", SAME_AGAIN, INTERRUPTED)
    except Exception as error:
        if resume_command(error):
            attach_resume_command(error, SAME_AGAIN)
        raise
    output.show(result.to_dict(), as_json, lambda: output.print_compared(result))


def _was_given(context: typer.Context, name: str) -> bool:
    """Return whether a parameter was on the command line or in the environment."""
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"


@app.command()
def evaluate(
    run: RunDir,
    entry: Annotated[
        str | None,
        typer.Argument(help="An entry (default: the one trained on).", metavar="ENTRY"),
    ] = None,
    split: Annotated[str, one_of("test|val|train", "Of the entry.")] = "test",
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 64,
    cache_dir: CacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Evaluate a run's model on an entry. It gets raw pixels, whatever their scaling there."""
    _messages(quiet)
    import pixelprep

    scores = pixelprep.evaluate(
        run, entry, split=split, batch_size=batch_size, cache_dir=cache_dir, quiet=quiet
    )
    output.show(scores.to_dict(), as_json, lambda: output.print_scores(scores))


@app.command()
def predict(
    run: RunDir,
    image: Annotated[
        list[Path], typer.Argument(help="Image files, or folders of them.", metavar="IMAGE")
    ],
    top: Annotated[int, typer.Option(help="Classes to show of each image.", metavar="N")] = 3,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict the likeliest classes of images with a run's model."""
    _messages(quiet)
    import pixelprep

    result = pixelprep.predict(run, image, top=top, quiet=quiet)
    output.show(result.to_dict(), as_json, lambda: output.print_predicted(result))


@app.command()
@partial(with_prepare_options, without=("force",))
def path(
    dataset: Dataset = "mnist",
    *,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Prepare it if it is not yet.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **choices: Any,
) -> None:
    """Print the folder of a prepared entry, for scripts. Exit status 1 if there is none."""
    _messages(quiet)
    import pixelprep

    find_or_prepare = pixelprep.prepare if prepare else pixelprep.find_entry
    entry = find_or_prepare(dataset, quiet=quiet, **choices)
    result = {"path": str(entry.path), "key": entry.key}
    output.show(result, as_json, lambda: typer.echo(result["path"]))


@app.command()
def datasets(as_json: Json = False) -> None:
    """List the datasets that are known by name."""
    from pixelprep.sources import REGISTRY, plugins

    known = [dataset.summary() for dataset in REGISTRY.values()]
    added = [{"name": name, "from": point.value} for name, point in plugins().items()]
    result = {"datasets": known, "plugins": added}
    output.show(result, as_json, lambda: output.print_datasets(result))


@app.command()
def info(
    entry: EntryName,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """Describe a prepared entry, once its files are checked."""
    import pixelprep

    opened = pixelprep.open(entry, cache_dir=cache_dir)
    result = {"path": str(opened.path), **opened.manifest.to_dict()}
    output.show(result, as_json, lambda: output.print_info(opened))


@app.command()
def report(
    entry: EntryName,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The file, or a folder for it (default: DATASET-MODE-KEY.html here).",
            metavar="PATH",
        ),
    ] = None,
    format: Annotated[str, one_of("html|json", "A page; its facts.")] = "html",
    open_it: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    cache_dir: CacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a page on an entry. What its data is and what scaling made of it, in pictures."""
    _messages(quiet)
    import pixelprep

    done = pixelprep.report(entry, out, format=format, cache_dir=cache_dir, quiet=quiet)
    output.show(done.to_dict(), as_json, lambda: output.print_report(done))
    if open_it:
        import webbrowser

        if not webbrowser.open(done.path.as_uri()):
            logging.getLogger("pixelprep").warning("no browser found to show it in")


@app.command()
def verify(
    entry: Annotated[
        list[str] | None,
        typer.Argument(help="Folders, keys, DATASET/MODE-KEY, or datasets.", metavar="ENTRY"),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="All entries of the cache.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Rebuild damaged entries from their raw data.")
    ] = False,
    cache_dir: CacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Re-read whole entries and check digests, format and statistics."""
    _messages(quiet)
    import pixelprep

    def print_result(result: "VerifyResult") -> None:
        if not as_json:  # one by one: all may take hours
            output.print_verified(spelled(result))

    def spelled(result: "VerifyResult") -> "VerifyResult":
        return replace(result, problems=[as_options(line, app) for line in result.problems])

    results = pixelprep.verify(
        *(entry or ()),
        every=every,
        repair=repair,
        on_result=print_result,
        cache_dir=cache_dir,
        quiet=quiet,
    )
    listed = {"entries": [spelled(result).to_dict() for result in results]}
    output.show(listed, as_json, lambda: None if results else output.say("no entries"))
    _fail_if_damaged(results, repair)


def _fail_if_damaged(results: "list[VerifyResult]", repair: bool) -> None:
    """End with an error if an entry is damaged, or could not be checked."""
    damaged = sum(not result.ok and result.checked for result in results)
    unchecked = sum(not result.checked for result in results)
    counts = {"damaged": damaged, "not checked": unchecked}
    parts = [f"{count} {what}" for what, count in counts.items() if count]
    if parts:
        entries = formatting.pluralize(len(results), "entry", "entries")
        hint = "rebuild those of the cache from their raw data with --repair"
        hint_needed = damaged and not repair
        _fail(f"of {entries}, {' and '.join(parts)}", hint if hint_needed else None, 1)


@app.command()
def export(
    entry: EntryName,
    directory: Annotated[
        Path, typer.Argument(help="Folder to write, new or empty.", metavar="DIR")
    ],
    to: Annotated[str, one_of("|".join(format_names()), "The new format.")],
    cache_dir: CacheDir = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write an entry in another format, and read it back. png has the raw pixels."""
    _messages(quiet)
    import pixelprep

    done = pixelprep.export(entry, directory, to, cache_dir=cache_dir, quiet=quiet, digests=as_json)
    output.show(done.to_dict(), as_json, lambda: output.print_export(done))


@cache_app.callback(invoke_without_command=True)
def _cache(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@cache_app.command("list")
def cache_list(cache_dir: CacheDir = None, as_json: Json = False) -> None:
    """List entries, raw downloads and leftovers."""
    from pixelprep import cache
    from pixelprep.system import fs

    items = cache.list(cache_dir=cache_dir)
    folder = str(fs.cache_dir(cache_dir))
    total = sum(item.bytes for item in items)
    result = {"cache": folder, **output.group_by_kind(items), "bytes": total}
    shown = [item for item in items if item.kind != "metadata"]
    output.show(result, as_json, lambda: output.print_cache(shown))


@cache_app.command("path")
def cache_path(cache_dir: CacheDir = None, as_json: Json = False) -> None:
    """Print where the cache folder is."""
    from pixelprep.system import fs

    folder = str(fs.cache_dir(cache_dir))
    output.show({"cache": folder}, as_json, lambda: typer.echo(folder))


@cache_app.command("remove")
def cache_remove(
    entry: Annotated[
        list[str],
        typer.Argument(
            help="Folders, keys, DATASET/MODE-KEY; or a dataset, its downloads too.",
            metavar="ENTRY",
        ),
    ],
    yes: Yes = False,
    dry_run: DryRun = False,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """Delete entries, or all there is of a dataset."""
    _messages(quiet=False)
    from pixelprep import cache

    items = cache.remove(*entry, dry_run=True, cache_dir=cache_dir)
    _remove(items, yes, dry_run, cache_dir, as_json)


@cache_app.command("prune")
def cache_prune(
    older_than: Annotated[
        str | None,
        typer.Option(
            help="Also entries last used longer ago than this: 12h, 30d, 1y; alone, days.",
            metavar="AGE",
        ),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(help="Never the N entries used last (alone: all but these).", metavar="N"),
    ] = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    cache_dir: CacheDir = None,
    as_json: Json = False,
) -> None:
    """Delete leftovers and, if asked, entries that were not used lately."""
    _messages(quiet=False)
    from pixelprep import cache

    items = cache.prune(older_than, keep, dry_run=True, cache_dir=cache_dir)
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
    from pixelprep import cache

    kept = 0
    if not as_json:
        output.print_cache(items)
    if not dry_run and items:
        if as_json and not yes:
            _fail("nothing deleted: --json does not ask", "add --yes, or --dry-run", 1)
        what = f"these {len(items)}" if len(items) > 1 else "it"
        _ask(yes, f"delete {what} for good?")
        removed = cache.remove(*items, unless_used=unless_used, cache_dir=cache_dir)
        kept, items = len(items) - len(removed), removed
    total = sum(item.bytes for item in items)
    result = {"dry_run": dry_run, **output.group_by_kind(items), "bytes": total}
    text = "nothing deleted" if dry_run or not items else f"deleted {output.size(total)}"
    text += f"; kept {kept} (in use or not deletable)" if kept else ""
    output.show(result, as_json, lambda: output.say(text))


def _ask(yes: bool, question: str) -> None:
    """Continue only with a yes, from the command line or from a person."""
    if yes:
        return
    if not sys.stdin.isatty():
        _fail("nothing deleted: stdin is not a terminal", "add --yes, or --dry-run", 1)
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        typer.echo(err=True)  # the question's line is not ended
        _fail("interrupted; nothing deleted", None, INTERRUPTED)
    if not agreed:
        output.say("nothing deleted", err=True)
        raise typer.Exit(1)


class _Plain(logging.Formatter):
    """Format messages whose names may hold anything."""

    def format(self, record: logging.LogRecord) -> str:
        return output.escape_control(as_options(super().format(record), app))


def _messages(quiet: bool) -> None:
    """Send the library's messages to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Plain("%(message)s"))
    log = logging.getLogger("pixelprep")
    log.handlers = [handler]
    log.setLevel(logging.WARNING if quiet else logging.INFO)


def main() -> NoReturn:
    """Run the command line; every failure is one line and, where there is a way out, a hint."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: nothing may go into a file instead
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - for as long as we run
    try:
        _main()
    finally:
        _discard_unwritten()


def _main() -> NoReturn:
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    _refuse_empty(arguments)
    try:
        code = app(arguments, prog_name="pixelprep", standalone_mode=False)
        sys.stdout.flush()  # a full disk is an error while it can still be reported
    except BrokenPipeError:  # nobody reads any more
        sys.exit(1)
    except Exception as error:
        if debug:
            traceback.print_exc()
        _fail(*_format_error(error))
    if code == INTERRUPTED:  # Typer turns Ctrl-C into this
        _fail("interrupted", None, INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _discard_unwritten() -> None:
    """Discard buffered output that cannot be written: Python, on exit, would turn it into 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _refuse_empty(arguments: list[str]) -> None:
    """Refuse an empty argument, of a variable that is not set: as a path it would be here."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        if not argument or re.fullmatch("--[a-z-]+=", argument):
            name = argument.removesuffix("=") or before
            name = name if name.startswith("--") else "an argument"
            _fail(f"{name} is empty", "is a shell variable not set? leave the option out", 2)


def _format_error(error: Exception) -> tuple[str, str | None, int]:
    """Return the message, the hint and the exit status of an error."""
    command = resume_command(error)
    if isinstance(error, PixelprepError):
        hint = ", then ".join(filter(None, (error.hint, command)))
        return error.message, hint, 2 if isinstance(error, UsageError) else 1
    if hasattr(error, "format_message"):  # Typer's own: wrong usage
        return _usage_error(error)
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        return f"{name}{error.strerror or error}", command, 1
    hint = f"{command} --debug" if command else "run again with --debug for the traceback"
    return f"{type(error).__name__}: {error}", hint, 1


def _usage_error(error: Any) -> tuple[str, str | None, int]:  # Any: one of Click's, vendored
    """Return the same of wrong usage, with the nearest command or option that Click suggests."""
    import difflib

    message, *suggested = re.split(
        r"\.? (?:Did you mean '|\(Possible options: )", error.format_message()
    )
    message = re.sub("Input should be a valid ([a-z]+), unable .*", r"expected a \1", message)
    message = message.replace("a integer", "a whole number").rstrip(".")
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path if context else 'pixelprep'} --help"
    if suggested:
        wrong, names = re.findall(NAME, message)[-1], re.findall(NAME, suggested[0])
        hint = f"did you mean '{difflib.get_close_matches(wrong, names, n=1, cutoff=0)[0]}'?"
    return message[:1].lower() + message[1:], hint, 2


def _fail(message: str, hint: str | None, code: int) -> NoReturn:
    output.print_error("error", as_options(" ".join(message.split()), app))
    if hint:
        output.print_error("hint", as_options(hint, app))
    sys.exit(code)
