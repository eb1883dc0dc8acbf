"""What a manifest keeps of the raw data: where it is from, and what its digest is taken over."""

from dataclasses import dataclass
from typing import ClassVar

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
        A URL.
    citation : str
        How the authors ask to be cited.
    """

    ignores_unknown: ClassVar[bool] = True

    title: str
    licence: str
    homepage: str = ""
    citation: str = ""


@dataclass(frozen=True, slots=True)
class SourceSplit(Record):
    """One split of the raw data.

    Parameters
    ----------
    dtype : str
        Of the raw images, as NumPy names it.
    shape : tuple of int
        (N, H, W, C) of the raw images.
    images, labels : str
        Their digests (data/FORMAT.md, section 4).
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
        What the labels 0, 1, … stand for.
    decode : dict
        The options by which it was read, JSON values; and what was left out.
    """

    ignores_unknown: ClassVar[bool] = True

    splits: dict[str, SourceSplit]
    class_names: tuple[str, ...]
    decode: dict[str, object]

    @property
    def digest(self) -> str:
        """The source digest: SHA-256 of the canonical JSON of all this."""
        return canonical.digest(self.to_dict())
