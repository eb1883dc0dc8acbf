"""Register the datasets that are known by name; a new one is one entry in `DATASETS`."""

from pixelprep.sources.base import Provenance
from pixelprep.sources.known import pcam
from pixelprep.sources.known.cifar import Cifar, Labels
from pixelprep.sources.known.download import RegistryFile
from pixelprep.sources.known.flowers import FLOWERS
from pixelprep.sources.known.idx_sets import Emnist, Qmnist
from pixelprep.sources.known.medmnist import MEDMNIST
from pixelprep.sources.known.mnist_sets import DIGITS, MNIST_SETS, SAMPLE
from pixelprep.sources.known.npz_sets import ArchiveKey, NpzSet
from pixelprep.sources.known.picture_sets import PICTURE_SETS
from pixelprep.sources.known.registered import Pair, RegisteredDataset
from pixelprep.sources.known.stl10 import Stl10
from pixelprep.sources.known.svhn import MatSet

LETTERS = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
SMALL = tuple("abcdefghijklmnopqrstuvwxyz")
# In 15 letters small and capital look alike, and are one class, the capital: as in torchvision's
# `EMNIST.classes_split_dict` and the package mnists' `Balanced.classes`.
MERGED = DIGITS + LETTERS + tuple("abdefghnqrt")
# The order of k49_classmap.csv, as the package mnists (0.4.1) has it.
KANA = tuple(
    "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわゐゑをんゝ"
)
THINGS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


EMNIST_ZIP = RegistryFile(
    "gzip.zip",
    561_753_746,
    "fb9bb67e33772a9cc0b895e4ecf36d2cf35be8b709693c3564cea2a019fcda8e",
    561_753_746,
)


def _emnist(
    part: str, what: str, rows: tuple[int, int], class_names: tuple[str, ...], first: int = 0
) -> Emnist:
    """Describe one part of EMNIST; all are in the same archive."""
    return Emnist(
        name=f"emnist-{part}",
        group="emnist",
        provenance=Provenance(
            f"EMNIST: {what}",
            "not stated",
            "https://www.nist.gov/itl/products-and-services/emnist-dataset",
            "Gregory Cohen, Saeed Afshar, Jonathan Tapson, André van Schaik (arXiv:1702.05373)",
        ),
        class_names=class_names,
        counts={"train": rows[0], "test": rows[1]},
        archive=EMNIST_ZIP,
        first=first,
        mirrors=("https://biometrics.nist.gov/cs_links/EMNIST/",),
    )


EMNIST = (
    _emnist("balanced", "47 classes of one size each", (112_800, 18_800), MERGED),
    _emnist("byclass", "digits and letters", (697_932, 116_323), DIGITS + LETTERS + SMALL),
    _emnist("bymerge", "digits and letters, alike ones merged", (697_932, 116_323), MERGED),
    _emnist("letters", "letters, capital and small as one", (124_800, 20_800), LETTERS, 1),
    _emnist("digits", "digits", (240_000, 40_000), DIGITS),
    _emnist("mnist", "digits, as MNIST has them", (60_000, 10_000), DIGITS),
)


def _qmnist(split: str, images: str, labels: str, label_bytes: int) -> Pair:
    stem, rows = f"qmnist-{split}", 60_000
    pixels, facts = 16 + rows * 28 * 28, 12 + rows * 8 * 4
    return Pair(
        rows,
        RegistryFile(f"{stem}-images-idx3-ubyte.gz", None, None, pixels, md5=images),
        RegistryFile(f"{stem}-labels-idx2-int.gz", label_bytes, None, facts, md5=labels),
    )


QMNIST = Qmnist(
    name="qmnist",
    provenance=Provenance(
        "QMNIST: MNIST's digits made again, with all 60,000 test images",
        "BSD-style",
        "https://github.com/facebookresearch/qmnist",
        "Chhavi Yadav, Léon Bottou: Cold Case: The Lost MNIST Digits, 2019",
    ),
    class_names=DIGITS,
    splits={
        "train": _qmnist(
            "train",
            "ed72d4157d28c017586c42bc6afe6370",
            "0058f8dd561b90ffdd0f734c6a30e5e4",
            463_024,
        ),
        "test": _qmnist(
            "test",
            "1394631089c404de565df7b7aeaf9412",
            "5b5b05890a5e13444e108efe57b788aa",
            526_800,
        ),
    },
    mirrors=("https://raw.githubusercontent.com/facebookresearch/qmnist/master/",),
)


def _k49(split: str, rows: int, images: str, labels: str) -> tuple[ArchiveKey, ArchiveKey]:
    """Describe two archives, whose sizes are published only roughly: a limit follows from N."""
    imgs = RegistryFile(f"k49-{split}-imgs.npz", None, None, rows * 28 * 28 + 4096, md5=images)
    labs = RegistryFile(f"k49-{split}-labels.npz", None, None, rows * 8 + 4096, md5=labels)
    return ArchiveKey(imgs, "arr_0"), ArchiveKey(labs, "arr_0")


K49_ROWS = {"train": 232_365, "test": 38_547}
K49 = NpzSet(
    name="k49",
    provenance=Provenance(
        "Kuzushiji-49, cursive Japanese characters; classes of unequal size",
        "CC BY-SA 4.0",
        "http://codh.rois.ac.jp/kmnist/",
        "Tarin Clanuwat et al. (arXiv:1812.01718)",
    ),
    class_names=KANA,
    counts=K49_ROWS,
    places={
        "train": _k49(
            "train",
            K49_ROWS["train"],
            "7ac088b20481cf51dcd01ceaab89d821",
            "44a8e1b893f81e63ff38d73cad420f7a",
        ),
        "test": _k49(
            "test",
            K49_ROWS["test"],
            "d352e201d846ce6b94f42c990966f374",
            "4da6f7a62e67a832d5eb1bd85c5ee448",
        ),
    },
    mirrors=("http://codh.rois.ac.jp/kmnist/dataset/k49/",),
)


def _cifar100(name: str, kind: str, column: int, classes: int) -> Cifar:
    """Describe CIFAR-100 with one of its two labels; the archive has the names of the classes."""
    return Cifar(
        name=name,
        group="" if name == "cifar100" else "cifar100",
        provenance=Provenance(
            f"CIFAR-100, photographs, {kind} classes",
            "not stated; its authors ask to be cited",
            "https://www.cs.toronto.edu/~kriz/cifar.html",
            "Alex Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009",
        ),
        archive=RegistryFile(
            "cifar-100-binary.tar.gz",
            168_513_733,
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
            190_000_000,  # an upper limit of 60,000 records of 3,074 bytes in a tar file
        ),
        folder="cifar-100-binary",
        parts={"train": ("train.bin",), "test": ("test.bin",)},
        part_rows=50_000,
        labels=Labels(
            column=column,
            columns=2,
            kind=kind,
            names_file=f"{kind}_label_names.txt",
            classes=classes,
        ),
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
    )


CIFAR100 = (
    _cifar100("cifar100", "fine", 1, 100),
    _cifar100("cifar100-coarse", "coarse", 0, 20),
)

SVHN_ROWS = {"train": 73_257, "test": 26_032}
SVHN = MatSet(
    name="svhn",
    provenance=Provenance(
        "Street View House Numbers, cropped digits",
        "non-commercial use only",
        "http://ufldl.stanford.edu/housenumbers/",
        "Yuval Netzer et al.: Reading Digits in Natural Images, 2011",
    ),
    class_names=DIGITS,
    counts=SVHN_ROWS,
    parts={
        "train": RegistryFile(
            "train_32x32.mat",
            182_040_794,
            "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8",
            SVHN_ROWS["train"] * 3080 + 4096,
        ),
        "test": RegistryFile(
            "test_32x32.mat",
            64_275_384,
            "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b",
            SVHN_ROWS["test"] * 3080 + 4096,
        ),
    },
    mirrors=("http://ufldl.stanford.edu/housenumbers/",),
)

STL10 = Stl10(
    name="stl10",
    provenance=Provenance(
        "STL-10, photographs of ten kinds of things; the unlabeled ones are not read",
        "not stated; images from ImageNet",
        "http://ai.stanford.edu/~acoates/stl10/",
        "Adam Coates, Honglak Lee, Andrew Y. Ng: An Analysis of Single Layer Networks, 2011",
    ),
    counts={"train": 5_000, "test": 8_000},
    archive=RegistryFile(
        "stl10_binary.tar.gz",
        2_640_397_119,
        "f31fd99273a1acb8609c8db427cebb1de3f71de77758cdc0e22956e1289b9866",
        3_200_000_000,  # an upper limit of 113,000 images of 27,648 bytes
    ),
    mirrors=("http://ai.stanford.edu/~acoates/stl10/",),
)


PCAM_ROWS = {"train": 262_144, "val": 32_768, "test": 32_768}


def _pcam(split: str, rows: int, sizes: tuple[int, int], *digests: str) -> dict[str, RegistryFile]:
    """Describe the images' and the labels' file; a limit of their content follows from N."""
    limits = [rows * row_bytes * 11 // 10 + (1 << 20) for row_bytes in (pcam.ROW_BYTES, 1)]
    stem = f"camelyonpatch_level_2_split_{split}"
    return {
        role: RegistryFile(f"{stem}_{key}.h5.gz", *pin)
        for (role, key), pin in zip(
            pcam.ROLES.items(), zip(sizes, digests, limits, strict=True), strict=True
        )
    }


# The facts are those of tensorflow-datasets 4.9.10; the README of the makers has the MD5s of val
# and test exchanged (torchvision 0.29.1 has them as here).
PCAM = pcam.Pcam(
    name="pcam",
    provenance=Provenance(
        "PatchCamelyon, patches of lymph node sections",
        "CC0",
        "https://patchcamelyon.grand-challenge.org/",
        "B. S. Veeling, J. Linmans, J. Winkens, T. Cohen, M. Welling:"
        " Rotation Equivariant CNNs for Digital Pathology, 2018",
    ),
    class_names=("no metastatic tissue", "metastatic tissue"),
    counts=PCAM_ROWS,
    parts={
        "train": _pcam(
            *("train", PCAM_ROWS["train"], (6_421_353_462, 21_378)),
            "d619e741468a7ab35c7e4a75e6821b7e7e6c9411705d45708f2a0efc8960656c",
            "b74126d2c01b20d3661f9b46765d29cf4e4fba6faba29c8e0d09d406331ab75a",
        ),
        "val": _pcam(
            *("valid", PCAM_ROWS["val"], (805_965_320, 3_038)),
            "f82ee1670d027b4ec388048d9eabc2186b77c009655dae76d624c0ecb053ccb2",
            "ce1ae30f08feb468447971cfd0472e7becd0ad96d877c64120c72571439ae48c",
        ),
        "test": _pcam(
            *("test", PCAM_ROWS["test"], (800_875_929, 3_040)),
            "79174c2201ad521602a5888be8f36ee10875f37403dd3f2086caf2182ef87245",
            "0a522005fccc8bbd04c5a117bfaf81d8da2676f03a29d7499f71d0a0bd6068ef",
        ),
    },
    mirrors=("https://zenodo.org/record/2546921/files/",),
)


DATASETS: tuple[RegisteredDataset, ...] = (
    *MNIST_SETS,
    *EMNIST,
    QMNIST,
    K49,
    Cifar(
        name="cifar10",
        provenance=Provenance(
            "CIFAR-10, photographs of ten kinds of things",
            "not stated; its authors ask to be cited",
            "https://www.cs.toronto.edu/~kriz/cifar.html",
            "Alex Krizhevsky: Learning Multiple Layers of Features from Tiny Images, 2009",
        ),
        class_names=THINGS,
        archive=RegistryFile(
            "cifar-10-binary.tar.gz",
            170_052_171,
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
            190_000_000,  # an upper limit of six files of 30,730,000 bytes in a tar file
        ),
        folder="cifar-10-batches-bin",
        parts={
            "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
            "test": ("test_batch.bin",),
        },
        mirrors=("https://www.cs.toronto.edu/~kriz/",),
    ),
    *CIFAR100,
    SVHN,
    STL10,
    PCAM,
    *MEDMNIST,
    *PICTURE_SETS,
    FLOWERS,
    SAMPLE,
)

# MedMNIST's parts are known without its name, too, as nothing else is called so.
OTHERWISE = {"cifar100fine": "cifar100", "patchcamelyon": "pcam"}
OTHERWISE |= {"oxfordflowers102": "flowers102"}
OTHERWISE |= {part.spelled.removeprefix("medmnist/"): part.name for part in MEDMNIST}
