"""Describe raw data in a manifest: its provenance, and everything its digest covers."""

from dataclasses import dataclass, fields
from typing import ClassVar

from pixelprep.errors import SourceError
from pixelprep.system import canonical
from pixelprep.system.json_record import Record


@dataclass(frozen=True, slots=True)
class Provenance(Record):
    """The origin of data, and the terms of its use.

    Parameters
    ----------
    title : str
        The dataset's full name.
    licence : str
        The licence, by its usual name.
    homepage : str
        The URL of its page.
    citation : str
        The citation that its authors ask for.
    """

    ignores_unknown: ClassVar[bool] = True

    title: str
    licence: str
    homepage: str = ""
    citation: str = ""

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            if not isinstance(value := getattr(self, name), str):
                raise SourceError(f"provenance: {name}: expected text, got {type(value).__name__}")


@dataclass(frozen=True, slots=True)
class SourceSplit(Record):
    """One split of the raw data.

    Parameters
    ----------
    dtype : str
        NumPy's name of the raw images' type.
    shape : tuple of int
        The shape (N, H, W, C) of the raw images.
    images, labels : str
        The digests of images and labels (data/FORMAT.md, section 4).
    """

    ignores_unknown: ClassVar[bool] = True

    dtype: str
    shape: tuple[int, ...]
    images: str
    labels: str


@dataclass(frozen=True, slots=True)
class SourceRecord(Record):
    """The raw data of an entry, as far as its bytes depend on it.

    Parameters
    ----------
    splits : dict of SourceSplit
        ``train`` and ``test``.
    class_names : tuple of str
        The classes of the labels 0, 1, ….
    decode : dict
        The options it was read with, and what was skipped; JSON values.
    """

    ignores_unknown: ClassVar[bool] = True

    splits: dict[str, SourceSplit]
    class_names: tuple[str, ...]
    decode: dict[str, object]

    @property
    def digest(self) -> str:
        """The source digest: the SHA-256 of this record's canonical JSON."""
        return canonical.digest(self.to_dict())
