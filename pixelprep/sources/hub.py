"""Read a dataset of the Hugging Face hub: the Parquet files of one commit.

They are kept where its own library keeps them (``HF_HOME``), which other programs share.
"""

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any  # Any: huggingface_hub, and a dataset's card

from pixelprep.errors import DownloadError, SourceError, UsageError, missing_extra
from pixelprep.sources import parquet
from pixelprep.sources.base import Options, Provenance, Raw, SourceContext
from pixelprep.sources.split_names import files_by_split, split_of
from pixelprep.sources.spool import load_rows, option_values
from pixelprep.system import formatting

LOG = logging.getLogger("pixelprep")

SUPPORTED = parquet.ParquetFiles.supported_options
NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:/([\w.-]+))?(?:@(\S+))?")
SPELLED = "hf:OWNER/NAME, hf:OWNER/NAME/CONFIG, and perhaps @REVISION behind it"
CONVERTED = "refs/convert/parquet"  # the revision where the hub keeps a Parquet copy of its own
COMMIT = re.compile("[0-9a-f]{40}")
CARD = "README.md"


def find(name: str, options: Options) -> "HubSource":
    """Return the source of OWNER/NAME, perhaps with /CONFIG and @REVISION."""
    match = NAME.fullmatch(name)
    if match is None:
        raise UsageError(f"hf:{name}: expected {SPELLED}")
    return HubSource(match[1], match[2], match[3], options)


@dataclass
class HubSource:
    """The Parquet files of a dataset's revision; of one of its configurations, if it has more."""

    repository: str
    config: str | None
    revision: str | None
    options: Options

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
        about = {"hub": self.repository, "config": self.config, "commit": self._state[0]}
        return [{**about, "options": option_values(self.options, SUPPORTED)}]

    def load(self, context: SourceContext) -> Raw:
        """Download what is missing, and copy all rows."""
        commit, names = self._state
        LOG.info("%s: commit %s", self.name, commit)
        wanted = self._of_config([name for name in names if name.endswith(parquet.SUFFIX)])
        splits = files_by_split(self.name, list(map(Path, wanted)))
        used = [path.as_posix() for paths in splits.values() for path in paths]
        top = self._snapshot([*used, CARD], local=bool(self.options.offline))
        if top.name != commit:
            raise SourceError(f"{self.name}: the hub has a new commit meanwhile", "run it again")
        files = {split: [top / path for path in paths] for split, paths in splits.items()}
        keys = self.options.images_key, self.options.labels_key
        card = partial(_card_features, top / CARD, self.config)
        rows = parquet.open_rows(files, *keys, card)
        return load_rows(self.name, rows, self.options, context)

    @cached_property
    def _state(self) -> tuple[str, Sequence[str]]:
        """The commit that the revision means, and the names of its files: asked once."""
        hub = _library()
        if self.options.offline:
            return self._kept("`offline` opens no connection")
        if COMMIT.fullmatch(self.revision or ""):
            with suppress(DownloadError):
                return self._kept("")
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
            with _bars(self.options.quiet):
                api = _library().HfApi()
                found = api.snapshot_download(self.repository, allow_patterns=names, **where)
        except Exception as error:  # of whichever library opens connections
            raise self._error(error) from error
        return Path(found)

    def _error(self, error: Exception) -> DownloadError:
        errors = _library().errors
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
            raise SourceError(f"hf:{self.repository}: it has no Parquet files", hint)
        config = self.config or (next(iter(by_config)) if len(by_config) == 1 else "")
        if config not in by_config:
            listed, at = sorted(filter(None, by_config)), self.revision and f"@{self.revision}"
            hint = f"choose one: hf:{self.repository}/{listed[0] if listed else 'CONFIG'}{at or ''}"
            has = f"expected one of its configurations, {formatting.shorten(listed) or 'none'}"
            raise SourceError(f"hf:{self.repository}: {has}", hint)
        return by_config[config]


def _config_of(name: str) -> str:
    """Return the configuration that a file belongs to: its first folder, if that has the name."""
    top, slash, _ = name.partition("/")
    return top if slash and top != "data" and split_of(top) is None else ""


def _card_features(card: Path, config: str | None) -> Mapping[str, Any] | None:
    """Return the features that a dataset's card describes, as its Parquet files would have them."""
    if not card.is_file():
        return None
    about = _library().DatasetCard.load(card).data.to_dict().get("dataset_info") or {}
    several = about if isinstance(about, list) else [about]
    fitting = [one for one in several if config in (None, one.get("config_name"))] or several
    found: dict[str, Any] = {}
    for feature in fitting[0].get("features") or ():
        kind = feature.get("dtype")
        names = kind.get("class_label", {}).get("names") if isinstance(kind, dict) else None
        if names is not None:  # by number, as text
            ordered = [names[key] for key in sorted(names, key=int)]
            found[feature["name"]] = {"_type": "ClassLabel", "names": ordered}
        else:
            found[feature["name"]] = {"_type": "Image"} if kind == "image" else {}
    return found or None


def _line(error: Exception) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


@contextmanager
def _bars(quiet: bool) -> Iterator[None]:
    """Let the library draw no bars of its own meanwhile, if `quiet`."""
    bars = _library().utils
    if not quiet or bars.are_progress_bars_disabled():
        yield
        return
    bars.disable_progress_bars()
    try:
        yield
    finally:
        bars.enable_progress_bars()


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors  # which it does not load by itself
    except ImportError as error:
        raise missing_extra("huggingface_hub", "hub", "a dataset of the hub") from error
    return huggingface_hub
