"""List the datasets that are known by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pixelprep.sources.known.lookup import REGISTRY
from pixelprep.sources.known.summary import DatasetSummary
from pixelprep.sources.resolve import plugins
from pixelprep.system.json_record import Record
from pixelprep.views import View


@dataclass(frozen=True, slots=True)
class PluginSummary(Record):
    """A dataset that another installed package knows by name.

    Parameters
    ----------
    name : str
        What `prepare` takes.
    origin : str
        ``MODULE:FUNCTION`` that makes its source.
    """

    name: str
    origin: str
    json_names: ClassVar[Mapping[str, str]] = {"origin": "from"}


@dataclass(frozen=True, slots=True)
class KnownDatasets(Record, View):
    """All datasets that are known by name.

    Parameters
    ----------
    datasets : tuple of DatasetSummary
        Those of pixelprep.
    plugins : tuple of PluginSummary
        Those of other installed packages.
    """

    datasets: tuple[DatasetSummary, ...]
    plugins: tuple[PluginSummary, ...]


def datasets() -> KnownDatasets:
    """List the datasets that are known by name.

    Returns
    -------
    KnownDatasets
        Those of pixelprep, and those of other installed packages.

    Examples
    --------
    >>> import pixelprep
    >>> [dataset.name for dataset in pixelprep.datasets().datasets][:2]
    ['mnist', 'fashion-mnist']
    """
    known = tuple(dataset.summary() for dataset in REGISTRY.values())
    added = (PluginSummary(name, point.value) for name, point in plugins().items())
    return KnownDatasets(known, tuple(added))
