"""Describe datasets published as an archive of pictures: Imagenette, EuroSAT, Tiny ImageNet."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pixelprep.sources.base import Provenance
from pixelprep.sources.known import download
from pixelprep.sources.known.registered import RegisteredDataset

if TYPE_CHECKING:
    from pixelprep.sources.pictures.layouts import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureArchive(RegisteredDataset):
    """Pictures in folders by class, read by `PictureSource`."""

    archive: download.RegistryFile
    folders: tuple[str, ...] = ()  # of the classes, where these are not their names
    class_count: int = 0  # where the names are only in the archive

    @property
    def files(self) -> list[download.RegistryFile]:
        return [self.archive]

    @property
    def classes(self) -> int:
        return len(self.class_names) or self.class_count

    def layout(self, folder: Path) -> "Layout | None":
        """Return which pictures there are where other files tell; None where their folders do."""
        return None


# WordNet's numbers, and the words that torchvision 0.29.1 has for them.
IMAGENETTE_CLASSES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


def _imagenette(name: str, title: str, file: str, size: int, md5: str) -> PictureArchive:
    return PictureArchive(
        name=name,
        group="" if name == "imagenette" else "imagenette",
        provenance=Provenance(
            f"Imagenette (version 2), ten classes of ImageNet, {title}",
            "not stated; images from ImageNet",
            "https://github.com/fastai/imagenette",
            "Jeremy Howard: imagenette",
        ),
        class_names=tuple(IMAGENETTE_CLASSES.values()),
        folders=tuple(IMAGENETTE_CLASSES),
        shape=(),
        archive=download.RegistryFile(f"{file}.tgz", size, None, size, md5=md5),
        mirrors=("https://s3.amazonaws.com/fast-ai-imageclas/",),
    )


PICTURE_SETS = (
    _imagenette(
        *("imagenette", "shorter sides of 160 pixels", "imagenette2-160", 99_003_388),
        "e793b78cc4c9e9a4ccc0c1155377a412",
    ),
    _imagenette(
        *("imagenette-320", "shorter sides of 320 pixels", "imagenette2-320", 341_663_724),
        "3df6f0d01a2c9592104656642f5e78a3",
    ),
    _imagenette(
        *("imagenette-full", "of the sizes that they came in", "imagenette2", 1_557_161_267),
        "fe2fc210e6bb7c5664d602c3cd71e612",
    ),
    PictureArchive(
        name="eurosat",
        provenance=Provenance(
            "EuroSAT, land seen from a satellite, in red, green and blue",
            "not stated",
            "https://github.com/phelber/EuroSAT",
            "Patrick Helber, Benjamin Bischke, Andreas Dengel, Damian Borth (arXiv:1709.00029)",
        ),
        class_names=(
            *("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial"),
            *("Pasture", "PermanentCrop", "Residential", "River", "SeaLake"),
        ),
        shape=(64, 64, 3),
        counts={"train": 27_000},  # "27000 labeled" (tensorflow-datasets 4.9.10); no split
        archive=download.RegistryFile(
            "EuroSAT.zip",
            94_280_567,
            "8ebea626349354c5328b142b96d0430e647051f26efc2dc974c843f25ecf70bd",
            94_280_567,
        ),
        mirrors=("http://madm.dfki.de/files/sentinel/",),
    ),
    PictureArchive(
        name="tiny-imagenet",
        provenance=Provenance(
            "Tiny ImageNet, 200 classes by WordNet's numbers; test has no labels and is not read",
            "not stated; images from ImageNet",
            "http://cs231n.stanford.edu/",
            "Ya Le, Xuan Yang: Tiny ImageNet Visual Recognition Challenge, 2015",
        ),
        class_count=200,
        # 500 and 50 a class, as the package tiny-imagenet-torch says of it.
        counts={"train": 100_000, "val": 10_000},
        shape=(64, 64, 3),
        archive=download.RegistryFile(
            "tiny-imagenet-200.zip",
            None,
            None,
            400_000_000,  # an upper limit
            md5="90528d7ca1a48142e341f4ef8d21d0de",
        ),
        mirrors=("http://cs231n.stanford.edu/",),
    ),
)
