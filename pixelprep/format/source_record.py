"""Describe raw data in a manifest: its provenance, and everything its digest covers."""

from dataclasses import dataclass, fields
from typing import ClassVar

from pixelprep.errors import SourceError
from pixelprep.system import canonical
from pixelprep.system.json_record import LenientRecord, Record

TASKS = ("classification", "multilabel")  # a row has one class, or has each or has it not


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
class SourceSplit(LenientRecord):
    """One split of the raw data."""

    dtype: str  # NumPy's name of the raw images' type
    shape: tuple[int, ...]  # (N, H, W, C), of the raw images
    images: str  # the digest (data/FORMAT.md, section 4)
    labels: str  # likewise
    names: str | None = None  # likewise, of the rows' names; None where they have none
    name_bytes: int | None = None  # of the longest of them


@dataclass(frozen=True, slots=True)
class SourceRecord(LenientRecord):
    """The raw data of an entry, as far as its bytes depend on it."""

    splits: dict[str, SourceSplit]  # train, and val and test where the source has them
    task: str  # one of `TASKS`
    class_names: tuple[str, ...]  # of the labels 0, 1, …
    decode: dict[str, object]  # the options it was read with, and what was skipped

    @property
    def digest(self) -> str:
        return canonical.digest(self.to_dict())
