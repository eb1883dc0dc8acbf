"""Read a dataset of the Hugging Face hub: the Parquet files of one commit, its pictures, or zips.

They are kept where its own library keeps them (``HF_HOME``), which other programs share.
"""

import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar  # Any: huggingface_hub, and a dataset's card

from pixelprep.errors import DownloadError, SourceError, UsageError, missing_extra
from pixelprep.format import manifest as manifests
from pixelprep.sources import shards
from pixelprep.sources.base import Options, Provenance, Raw, SourceContext
from pixelprep.sources.containers import exported
from pixelprep.sources.libraries import hub_card, parquet
from pixelprep.sources.libraries.spool import load_rows, option_values
from pixelprep.sources.pictures import image_file
from pixelprep.sources.pictures.image_folder import ImageArchive, ImageArchives, ImageFolder
from pixelprep.sources.pictures.members import ZIP
from pixelprep.sources.pictures.tables import FOUND_BY_ITSELF
from pixelprep.sources.requested import BY_ALL, refuse_unsupported
from pixelprep.sources.split_names import files_by_split, split_of
from pixelprep.system import formatting, notices

LOG = logging.getLogger("pixelprep")

OF_ROWS = parquet.ParquetFiles.supported_options
OF_PICTURES = ImageFolder.supported_options - {"follow_links", "labels"}  # of this machine's files
SUPPORTED = OF_ROWS | OF_PICTURES
NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:/([\w.-]+))?(?:@(\S+))?")
SPELLED = "hf:OWNER/NAME, hf:OWNER/NAME/CONFIG, and perhaps @REVISION behind it"
CONVERTED = "refs/convert/parquet"  # the revision where the hub keeps a Parquet copy of its own
COMMIT = re.compile("[0-9a-f]{40}")
CARD = "README.md"
EXPORTED = Path("data") / manifests.EXPORTED  # of what `push` made


def find(name: str, options: Options) -> "HubSource":
    """Return the source of OWNER/NAME, perhaps with /CONFIG and @REVISION."""
    match = NAME.fullmatch(name)
    if match is None:
        raise UsageError(f"hf:{name}: expected {SPELLED}")
    return HubSource(match[1], match[2], match[3], options)


@dataclass
class HubSource:
    """The Parquet files of a dataset's revision, or where it has none its folders of pictures, or
    zips of such; of one of its configurations, if it has more.
    """

    repository: str
    config: str | None
    revision: str | None
    options: Options
    supported_options: ClassVar[frozenset[str]] = SUPPORTED

    @property
    def name(self) -> str:
        parts = ["hf", *self.repository.split("/"), self.config]
        return "-".join(part for part in parts if part)

    @property
    def on_leak(self) -> str | None:
        """What is done where an image of train is in another split, too."""
        return self.options.on_leak

    @property
    def provenance(self) -> Provenance:
        page = f"https://huggingface.co/datasets/{self.repository}"
        return Provenance(f"{self.repository} of the Hugging Face hub", "as its page states", page)

    def fingerprints(self) -> list[dict[str, object]]:
        """Return the commit that the revision means, and the options by which it is read."""
        is_commit = COMMIT.fullmatch(self.revision or "")  # of which the hub need not be asked
        commit = self.revision if is_commit else self._state[0]
        about = {"hub": self.repository, "config": self.config, "commit": commit}
        return [{**about, "options": option_values(self.options, SUPPORTED)}]

    def load(self, context: SourceContext) -> Raw:
        """Download what is missing, and copy all rows."""
        commit, names = self._state
        LOG.info("%s: commit %s", self.name, commit)
        tables = [name for name in names if _is_table(name)]
        if not tables and (pictures := self._pictures(names)):
            return self._load_pictures(pictures, context)
        zips = [] if tables else [name for name in names if name.lower().endswith(ZIP)]
        supported = (OF_PICTURES if zips else OF_ROWS) | BY_ALL
        refuse_unsupported(f"hf:{self.repository}", self.options, supported)
        card, data = self._card() if CARD in names else {}, tables or zips
        splits = hub_card.files(f"hf:{self.repository}", card, self.config, data)
        splits = splits or files_by_split(self.name, list(map(Path, self._of_config(data))))
        used = [path.as_posix() for paths in splits.values() for path in paths]
        shards.refuse_missing(f"hf:{self.repository}", map(Path, used), map(Path, data))
        top = self._of_commit([*used, CARD, EXPORTED.as_posix()])
        files = {split: [top / path for path in paths] for split, paths in splits.items()}
        if zips:
            return self._load_zips(top, files, context)
        rows = parquet.open_rows(files, self.options, partial(hub_card.features, card, self.config))
        raw = load_rows(self.name, rows, self.options, context)
        if EXPORTED.as_posix() in names:  # a link there, which is not followed
            shutil.copyfile(top / EXPORTED, context.folder() / EXPORTED.name)
            raw = exported.recognized(context.folder(), raw, context.pool, self._shown)
        return raw

    def _pictures(self, names: Sequence[str]) -> list[str]:
        """Select the pictures of the configuration, and the tables of their labels."""
        prefix = f"{self.config}/" if self.config else ""
        every = [name for name in names if name.startswith(prefix)]
        has_any = any(name.lower().endswith(image_file.SUFFIXES) for name in every)
        ends = (*image_file.SUFFIXES, *FOUND_BY_ITSELF)
        return [name for name in every if name.lower().endswith(ends)] if has_any else []

    def _load_pictures(self, names: Sequence[str], context: SourceContext) -> Raw:
        """Download the pictures, and read them as a folder of the user's."""
        refuse_unsupported(f"hf:{self.repository}", self.options, OF_PICTURES | BY_ALL)
        prefix = f"{self.config}/" if self.config else ""
        # Patterns by ending: the library compares each file with each pattern.
        endings = sorted({Path(name).suffix for name in names})
        top = self._of_commit([CARD, *(f"{prefix}*{ending}" for ending in endings)])
        options = replace(self._of_folders, follow_links=True)  # into the library's own folder
        return ImageFolder(top / prefix, options).load(context, self._shown)

    def _load_zips(
        self, top: Path, files: Mapping[str, Sequence[Path]], context: SourceContext
    ) -> Raw:
        """Read zips of pictures as those of the user's: one, or one for each split."""
        for split, paths in files.items():
            if len(paths) > 1:
                listed = formatting.shorten(path.relative_to(top) for path in paths)
                several = f"{self._shown}: expected one zip for {split}, found {listed}"
                raise SourceError(several, "download them, and unpack them side by side")
        if files.keys() == {"train"}:  # it may have splits in it
            return ImageArchive(files["train"][0], self._of_folders).load(context, self._shown)
        parts = {split: path for split, [path] in files.items()}
        return ImageArchives(top, self._of_folders, parts).load(context, self._shown)

    @property
    def _of_folders(self) -> Options:
        """The options as of a user's own; classes are chosen later."""
        return replace(self.options, classes=None, class_map=None)

    @property
    def _shown(self) -> str:
        name = "/".join(filter(None, [f"hf:{self.repository}", self.config]))
        return name + (f"@{self.revision}" if self.revision else "")

    def _card(self) -> Mapping[str, Any]:
        """Return what the card tells programs; nothing, and a line, where it is broken."""
        path = self._of_commit([CARD]) / CARD
        try:
            return library().metadata_load(path) or {}
        except Exception as error:  # of whichever library reads YAML
            notices.tell("%s: its card cannot be read: %s", self.name, _line(error))
            return {}

    def _of_commit(self, names: Sequence[str]) -> Path:
        """Return the folder with these files of the commit, downloaded where they lack."""
        top = self._snapshot(names, local=bool(self.options.offline))
        if top.name != self._state[0]:
            raise SourceError(f"{self.name}: the hub has a new commit meanwhile", "run it again")
        return top

    @cached_property
    def _state(self) -> tuple[str, Sequence[str]]:
        """The commit that the revision means, and the names of its files: asked once."""
        hub = library()
        if self.options.offline:
            return self._kept("`offline` opens no connection")
        try:
            found = hub.HfApi().dataset_info(self.repository, revision=self.revision)
        except hub.errors.HfHubHTTPError as error:
            raise self._error(error) from error
        except Exception as error:  # of whichever library opens connections
            commit, names = self._kept(f"the hub cannot be asked: {_line(error)}")
            LOG.warning("%s: the hub cannot be asked: commit %s is taken", self.name, commit)
            return commit, names
        return str(found.sha), sorted(file.rfilename for file in found.siblings or ())

    def _kept(self, why: str) -> tuple[str, Sequence[str]]:
        """Return the same of what was downloaded before."""
        try:
            top = self._snapshot([CARD], local=True)
        except DownloadError as error:
            message = f"hf:{self.repository}: is not downloaded, and {why}"
            raise DownloadError(message, "run it once with a connection") from error
        found = (path.relative_to(top) for path in top.rglob("*") if path.is_file())
        return top.name, sorted(path.as_posix() for path in found)

    def _snapshot(self, names: Sequence[str], *, local: bool) -> Path:
        """Return the folder with these files, downloaded unless `local`."""
        where = {"repo_type": "dataset", "revision": self.revision, "local_files_only": local}
        try:
            with bars(self.options.quiet):
                api = library().HfApi()
                found = api.snapshot_download(self.repository, allow_patterns=names, **where)
        except Exception as error:  # of whichever library opens connections
            raise self._error(error) from error
        return Path(found)

    def _error(self, error: Exception) -> DownloadError:
        errors = library().errors
        at = f"hf:{self.repository}"
        if isinstance(error, errors.RevisionNotFoundError):
            return DownloadError(
                f"{at}: has no revision {self.revision}", "a branch, tag or commit"
            )
        if isinstance(error, errors.RepositoryNotFoundError):
            hint = f"expected {SPELLED}; to read a private one, log in: hf auth login"
            return DownloadError(f"{at}: no such dataset on the hub, or a private one", hint)
        return DownloadError(f"{at}: {_line(error)}")

    def _of_config(self, names: Sequence[str]) -> list[str]:
        """Select the files of the configuration; there may be one, where none is asked for."""
        by_config: dict[str, list[str]] = {}
        for name in names:
            by_config.setdefault(_config_of(name), []).append(name)
        if not names:
            hint = f"the hub's own copy: hf:{self.repository}@{CONVERTED}"
            raise SourceError(
                f"hf:{self.repository}: it has no Parquet files, images or zips", hint
            )
        config = self.config or (next(iter(by_config)) if len(by_config) == 1 else "")
        if config not in by_config:
            listed, at = sorted(filter(None, by_config)), self.revision and f"@{self.revision}"
            hint = f"choose one: hf:{self.repository}/{listed[0] if listed else 'CONFIG'}{at or ''}"
            has = f"expected one of its configurations, {formatting.shorten(listed) or 'none'}"
            raise SourceError(f"hf:{self.repository}: {has}", hint)
        return by_config[config]


def _is_table(name: str) -> bool:
    """Return whether a file is a table of rows; not one that lies beside pictures."""
    return name.endswith(parquet.SUFFIX) and Path(name).name not in FOUND_BY_ITSELF


def _config_of(name: str) -> str:
    """Return the configuration that a file belongs to: its first folder, if that has the name."""
    top, slash, _ = name.partition("/")
    return top if slash and top != "data" and split_of(top) is None else ""


def _line(error: Exception) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


@contextmanager
def bars(quiet: bool) -> Iterator[None]:
    """Let the library draw no bars of its own meanwhile, if `quiet`."""
    utils = library().utils
    if not quiet or utils.are_progress_bars_disabled():
        yield
        return
    utils.disable_progress_bars()
    try:
        yield
    finally:
        utils.enable_progress_bars()


def library(purpose: str = "a dataset of the hub") -> Any:
    """Return huggingface_hub; raise `MissingExtraError` where it is not installed."""
    try:
        import huggingface_hub
        import huggingface_hub.errors  # which it does not load by itself
        import huggingface_hub.utils
    except ImportError as error:
        raise missing_extra("huggingface_hub", "hub", purpose) from error
    return huggingface_hub
