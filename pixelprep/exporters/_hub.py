"""Push an entry to the Hugging Face hub: Parquet files and a card, in one commit."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any  # Any: huggingface_hub

from pixelprep.cache import entries, remotes
from pixelprep.cache.remotes import PushResult
from pixelprep.dataset.entry import Entry
from pixelprep.errors import PixelprepError, RemoteError, UsageError, one_line
from pixelprep.exporters import _hub_card
from pixelprep.exporters.export import Export, export
from pixelprep.sources import meant
from pixelprep.sources.libraries import hub as source
from pixelprep.system import fs, os_calls, staging
from pixelprep.system.remote import MAX_MESSAGE, scrub

SPELLED = "expected hf://datasets/OWNER/NAME, and perhaps @BRANCH behind it"
DATA = "data"  # the folder of all but the card
HINTS = {
    401: "log in: hf auth login; or give a token that is valid in HF_TOKEN",
    403: "take a token that may write there: hf auth login",
    409: "somebody else pushed meanwhile: push again",
    412: "somebody else pushed meanwhile: push again",
    429: "the hub takes no more requests for now: push again later",
}


def push(
    entry: Entry | str | os.PathLike[str],
    remote: str | None = None,
    *,
    force: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> PushResult:
    """Publish an entry in a remote, from where others pull it; or its images on a hub.

    What is there already is not sent again; the entry appears at once, when all of it is there.

    Parameters
    ----------
    entry : Entry, str or path
        An entry, or what `pixelprep.open` takes.
    remote : str, optional
        ``s3://bucket/path`` or any URL that fsspec knows and can write, or a folder. Default:
        ``PIXELPREP_REMOTE``. Credentials are those that fsspec finds.
        ``hf://datasets/OWNER/NAME``: Parquet of the raw pixels and a card, in one commit; a
        repository that is made is private. The token is that of huggingface_hub.
    force : bool
        Send every file, also where the remote has it, damaged perhaps, or has other bytes of the
        same recipe; over a card that was written by hand.
    cache_dir : path, optional
        Default: ``PIXELPREP_CACHE_DIR``, else the system's place for caches.
    quiet : bool
        Draw no progress bar.

    Returns
    -------
    PushResult
        Where it is, what was sent, and whether it was there.

    Raises
    ------
    RemoteError, MissingExtraError
        When the remote cannot be reached or written, or a package for it is not installed.
    EntryError, UsageError
        When there is no such entry, or it is damaged; when no remote is given, or Parquet cannot
        hold such images.

    Examples
    --------
    >>> import pixelprep
    >>> entry = pixelprep.prepare("sample", mode="center", quiet=True)
    >>> pixelprep.push(entry, "memory://elsewhere", quiet=True).files
    2
    """
    os_calls.require_posix("pushing an entry")
    url, cache = remotes.meant(remote), fs.cache_dir(cache_dir)
    if not isinstance(entry, Entry):
        entry = entries.open_named(entry, cache, quiet)
    if not url.lower().startswith("hf://"):
        with fs.translate_oserror(cache):
            return remotes.push_entry(entry, remotes.Remote(url), cache, force, quiet)
    match = source.NAME.fullmatch(meant(url).removeprefix("hf:"))
    if match is None or match[2] is not None:
        raise UsageError(f"{scrub(url)}: {SPELLED}")
    with fs.translate_oserror(cache), source.bars(quiet):
        return _push(entry, match[1], match[3] or "main", force, cache, quiet)


def _push(
    entry: Entry, repository: str, revision: str, force: bool, cache: Path, quiet: bool
) -> PushResult:
    hub = source.library("a dataset on the hub")
    api, where = hub.HfApi(), f"hf://datasets/{repository}"
    with _translated(where):
        api.whoami()  # before anything is written: is there a token?
        state = _state(hub, api, repository, revision)
    with staging.workspace(cache, f"hub-{entry.manifest.key}") as work:
        if state is not None and source.CARD in state[1] and not force:
            with _translated(where):
                _refuse_foreign(api, where, repository, state[0], work)
        done = export(entry, work / DATA, "parquet", quiet=quiet)
        card = work / source.CARD
        card.write_text(_hub_card.card(entry, repository, _by_split(entry, done)), "utf-8")
        with _translated(where):
            if state is None:
                api.create_repo(repository, repo_type="dataset", private=True, exist_ok=True)
                state = _state(hub, api, repository, revision)
            head, names = state or (None, [])
            sent = {f"{DATA}/{file.name}": done.path / file.name for file in done.files}
            sent[source.CARD] = card
            add = [hub.CommitOperationAdd(name, path) for name, path in sent.items()]
            gone = [n for n in names if n.startswith(f"{DATA}/") and n not in sent]
            commit = api.create_commit(
                repository,
                [*add, *map(hub.CommitOperationDelete, gone)],
                commit_message=f"pixelprep {entry.dataset}, {entry.manifest.source.digest[:12]}",
                repo_type="dataset",
                revision=revision,
                parent_commit=head,  # of two at once, the second is refused
            )
    present = commit.oid == head
    files, size = (0, 0) if present else (len(sent), done.bytes)
    return PushResult(f"{where}@{commit.oid}", files, size, present)


def _by_split(entry: Entry, done: Export) -> Mapping[str, int]:
    """Return the bytes of each split's files."""
    return {
        split: sum(file.bytes for file in done.files if file.name.startswith(f"{split}-"))
        for split in entry.splits
    }


def _state(hub: Any, api: Any, repository: str, revision: str) -> tuple[str, list[str]] | None:
    """Return the commit that a branch has, and its files; None where there is no repository."""
    try:
        found = api.repo_info(repository, repo_type="dataset", revision=revision)
    except hub.errors.RevisionNotFoundError:
        raise
    except hub.errors.RepositoryNotFoundError:
        return None
    return str(found.sha), [file.rfilename for file in found.siblings or ()]


def _refuse_foreign(api: Any, where: str, repository: str, head: str, work: Path) -> None:
    """Refuse a repository whose card was not written by a push."""
    # Not into the library's own folder, where it would look like a commit with a card alone.
    there = {"repo_type": "dataset", "revision": head, "local_dir": work / "there"}
    path = api.hf_hub_download(repository, source.CARD, **there)
    if _hub_card.MARK not in Path(path).read_text("utf-8", "replace"):
        own = f"{where}: its card, {source.CARD}, was written by hand"
        raise UsageError(own, "another NAME; or replace it by `force`")


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """Turn whatever the library raises into one line about a repository."""
    try:
        yield
    except (PixelprepError, MemoryError):
        raise
    except Exception as error:  # of whichever library opens connections
        raise _error(where, error) from None


def _error(where: str, error: BaseException) -> RemoteError:
    cause: BaseException | None = error
    while cause is not None and getattr(cause, "response", None) is None:
        cause = cause.__cause__  # uploads wrap what the server said
    status = getattr(getattr(cause, "response", None), "status_code", None)
    name = type(error).__name__
    if status is None and name == "LocalTokenNotFoundError":
        return RemoteError(f"{where}: needs a token, and there is none", HINTS[401])
    said = scrub(one_line(str(cause or error)))[:MAX_MESSAGE]
    told = f"{status}: {said}" if status else f"{name}: {said}"
    return RemoteError(f"{where}: {told}", HINTS.get(status or 0))
