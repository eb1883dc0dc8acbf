"""Tell what a dataset is that is known by name."""

from dataclasses import dataclass

from pixelprep.system.json_record import Record
from pixelprep.views import View


@dataclass(frozen=True, slots=True)
class DatasetSummary(Record, View):
    """A dataset that is known by name, as it is before it is prepared.

    Parameters
    ----------
    name : str
        What `prepare` takes.
    shape : tuple of int
        (H, W, C), of each image; empty where they differ.
    train, test : int
        The images of each split; 0 where these are not known, or there is no such split.
    classes : int
        The number of classes.
    download_bytes : int, optional
        What is downloaded; 0 if the package contains it, None if that is not published.
    title, licence, homepage, citation : str
        As of the provenance of an entry.
    val : int
        The images of its own validation split; 0 if it has none.
    task : {"classification", "multilabel"}
        Whether an image has one class, or several or none.
    tried : bool
        Whether the published files were read when pixelprep was made; else files made after
        their description.
    """

    name: str
    shape: tuple[int, ...]
    train: int
    test: int
    classes: int
    download_bytes: int | None
    title: str
    licence: str
    homepage: str
    citation: str
    val: int = 0
    task: str = "classification"
    tried: bool = True
