"""Read datasets known by name whose splits are MATLAB files, as SVHN."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pixelprep.numerics.lazy import np
from pixelprep.sources import axes
from pixelprep.sources.base import Raw, RawSplit, SourceContext
from pixelprep.sources.containers import mat
from pixelprep.sources.known import download
from pixelprep.sources.known.registered import RegisteredDataset, find_pinned


@dataclass(frozen=True, slots=True, kw_only=True)
class MatSet(RegisteredDataset):
    """A file for each split, as SVHN: X of H×W×C×N, y of N×1, in which 10 stands for 0."""

    parts: Mapping[str, download.RegistryFile] = field(default_factory=dict)
    shape: tuple[int, int, int] = (32, 32, 3)

    @property
    def files(self) -> list[download.RegistryFile]:
        return list(self.parts.values())

    def read(self, folder: Path, context: SourceContext) -> Raw:
        paths = {name: find_pinned(folder, file) for name, file in self.parts.items()}
        splits = {}
        keys = {"images": "X", "labels": "y"}
        for name, pair in mat.read_arrays(paths, keys, context).items():
            numbers = pair["labels"][:].reshape(-1).astype(np.int64)
            turned = axes.turned(f"{self.spelled}: {name}", pair["images"], mat.ORDER)
            splits[name] = RawSplit(turned, np.where(numbers == 10, 0, numbers))
        return self.raw(splits, {**axes.record(mat.ORDER), "labels": "10 is 0"})
