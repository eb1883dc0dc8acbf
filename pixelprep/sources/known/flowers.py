"""Describe and read Oxford's 102 flowers: pictures in an archive, their labels in MATLAB files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pixelprep.errors import SourceError
from pixelprep.format.recipe import SPLITS
from pixelprep.numerics import permutation
from pixelprep.numerics.lazy import np
from pixelprep.sources.base import Provenance
from pixelprep.sources.known import download
from pixelprep.sources.known.picture_sets import PictureArchive
from pixelprep.sources.known.registered import find_pinned

if TYPE_CHECKING:
    from pixelprep.sources.pictures.layouts import Layout

# The order of the numbers, as torchvision 0.29.1 has it.
# fmt: off
NAMES = (
    "pink primrose", "hard-leaved pocket orchid", "canterbury bells", "sweet pea",
    "english marigold", "tiger lily", "moon orchid", "bird of paradise", "monkshood",
    "globe thistle", "snapdragon", "colt's foot", "king protea", "spear thistle",
    "yellow iris", "globe-flower", "purple coneflower", "peruvian lily", "balloon flower",
    "giant white arum lily", "fire lily", "pincushion flower", "fritillary", "red ginger",
    "grape hyacinth", "corn poppy", "prince of wales feathers", "stemless gentian",
    "artichoke", "sweet william", "carnation", "garden phlox", "love in the mist",
    "mexican aster", "alpine sea holly", "ruby-lipped cattleya", "cape flower",
    "great masterwort", "siam tulip", "lenten rose", "barbeton daisy", "daffodil",
    "sword lily", "poinsettia", "bolero deep blue", "wallflower", "marigold", "buttercup",
    "oxeye daisy", "common dandelion", "petunia", "wild pansy", "primula", "sunflower",
    "pelargonium", "bishop of llandaff", "gaura", "geranium", "orange dahlia",
    "pink-yellow dahlia?", "cautleya spicata", "japanese anemone", "black-eyed susan",
    "silverbush", "californian poppy", "osteospermum", "spring crocus", "bearded iris",
    "windflower", "tree poppy", "gazania", "azalea", "water lily", "rose", "thorn apple",
    "morning glory", "passion flower", "lotus", "toad lily", "anthurium", "frangipani",
    "clematis", "hibiscus", "columbine", "desert-rose", "tree mallow", "magnolia",
    "cyclamen", "watercress", "canna lily", "hippeastrum", "bee balm", "ball moss",
    "foxglove", "bougainvillea", "camellia", "mallow", "mexican petunia", "bromelia",
    "blanket flower", "trumpet creeper", "blackberry lily",
)
# fmt: on
KEYS = {"train": "trnid", "val": "valid", "test": "tstid"}  # of the pictures' numbers, from 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Flowers(PictureArchive):
    """Pictures in one folder, by their numbers; the number of each one's class, from 1."""

    labels: download.RegistryFile
    splits: download.RegistryFile
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def files(self) -> list[download.RegistryFile]:
        return [self.archive, self.labels, self.splits]

    def layout(self, folder: Path) -> Layout:
        """Return the pictures of each split, in the format's seeded order."""
        from pixelprep.sources.containers import mat
        from pixelprep.sources.pictures.layouts import ImageList, Layout  # others do without

        files = {"labels": self.labels, "splits": self.splits}
        paths = {name: os.fspath(find_pinned(folder, file)) for name, file in files.items()}
        found = mat.run_in_sandbox(", ".join(paths.values()), f"{__name__}:read_numbers", **paths)
        labels, splits = np.array(found["labels"]), {}
        for name in KEYS:
            numbers = np.array(found[name])
            if len(numbers) != self.counts[name] or numbers.max() > len(labels):
                expected = f"{name}: expected {self.counts[name]} pictures of {len(labels)}"
                raise SourceError(f"{self.spelled}: {expected}, got {len(numbers)}")
            order = permutation.permutation(
                len(numbers), seed=0, stream=permutation.Stream.SOURCE, index=SPLITS.index(name)
            )
            pictures = [f"jpg/image_{number:05d}.jpg" for number in numbers[order].tolist()]
            splits[name] = ImageList(pictures, labels[numbers[order] - 1] - 1)
        return Layout(self.class_names, splits, decode={"labels": "from 1"})


def read_numbers(labels: str, splits: str) -> Iterator[dict[str, list[int]]]:
    """Yield the class of each picture, and the pictures of each split; in the sandbox."""
    import scipy.io

    found = scipy.io.loadmat(splits)
    held = {"labels": scipy.io.loadmat(labels)["labels"]}
    held |= {name: found[key] for name, key in KEYS.items()}
    yield {name: array.reshape(-1).tolist() for name, array in held.items()}


FLOWERS = Flowers(
    name="flowers102",
    provenance=Provenance(
        "Oxford 102 Flowers, photographs",
        "not stated",
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        "M-E. Nilsback, A. Zisserman:"
        " Automated Flower Classification over a Large Number of Classes, 2008",
    ),
    class_names=NAMES,
    shape=(),
    counts={"train": 1_020, "val": 1_020, "test": 6_149},
    archive=download.RegistryFile(
        "102flowers.tgz",
        344_862_509,
        "2d01ecc807db462958cfe3d92f57a8c252b4abd240eb955770201e45f783b246",
        344_862_509,
    ),
    labels=download.RegistryFile(
        "imagelabels.mat",
        502,
        "4903e94206bac23bf772aadf06451916df56b58fc483a62db32a97b82656651d",
        502,
    ),
    splits=download.RegistryFile(
        "setid.mat",
        14_989,
        "46b8678f91fd95d3c8f4feab80d271a6c834a1dd896fe29fd3e6ad9ce5c8dccd",
        14_989,
    ),
    mirrors=("https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",),
)
