"""Register the datasets that are known by name; a new one is one entry in `DATASETS`."""

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from pixelprep.sources.base import Provenance
from pixelprep.sources.containers import idx
from pixelprep.sources.known import pcam
from pixelprep.sources.known.cifar import Cifar, Labels
from pixelprep.sources.known.download import RegistryFile
from pixelprep.sources.known.flowers import FLOWERS
from pixelprep.sources.known.idx_sets import Emnist, Qmnist
from pixelprep.sources.known.medmnist import MEDMNIST
from pixelprep.sources.known.npz_sets import NpzSet, Place
from pixelprep.sources.known.picture_sets import PICTURE_SETS
from pixelprep.sources.known.registered import IdxPairs, Pair, RegisteredDataset
from pixelprep.sources.known.stl10 import Stl10
from pixelprep.sources.known.svhn import MatSet

DIGITS = tuple("0123456789")
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


def _pairs(rows: tuple[int, int], sizes: tuple[int, ...], *digests: str) -> dict[str, Pair]:
    """Describe four IDX files: images and labels of train, then of test.

    `sizes` and the first four digests are those of the archives; the rest, if known, those of the
    contents.
    """
    names = [name for pair in idx.NAMES.values() for name in pair]
    content_sizes = [size for count in rows for size in (16 + count * 28 * 28, 8 + count)]
    contents: Sequence[str | None] = digests[4:] or [None] * 4
    pins = zip(names, sizes, digests[:4], content_sizes, contents, strict=True)
    files = [RegistryFile(*pin) for pin in pins]
    return {"train": Pair(rows[0], *files[:2]), "test": Pair(rows[1], *files[2:])}


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


def _k49(split: str, rows: int, images: str, labels: str) -> tuple[Place, Place]:
    """Describe two archives, whose sizes are published only roughly: a limit follows from N."""
    imgs = RegistryFile(f"k49-{split}-imgs.npz", None, None, rows * 28 * 28 + 4096, md5=images)
    labs = RegistryFile(f"k49-{split}-labels.npz", None, None, rows * 8 + 4096, md5=labels)
    return Place(imgs, "arr_0"), Place(labs, "arr_0")


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
    IdxPairs(
        name="mnist",
        tried=True,
        provenance=Provenance(
            "MNIST handwritten digits",
            "CC BY-SA 3.0",
            "http://yann.lecun.com/exdb/mnist/",
            "Yann LeCun, Corinna Cortes, Christopher J. C. Burges",
        ),
        class_names=DIGITS,
        splits=_pairs(
            (60_000, 10_000),
            (9_912_422, 28_881, 1_648_877, 4_542),
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        mirrors=(
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
        ),
    ),
    IdxPairs(
        name="fashion-mnist",
        provenance=Provenance(
            "Fashion-MNIST, Zalando's article images",
            "MIT",
            "https://github.com/zalandoresearch/fashion-mnist",
            "Han Xiao, Kashif Rasul, Roland Vollgraf (arXiv:1708.07747)",
        ),
        class_names=(
            "T-shirt/top",
            "Trouser",
            "Pullover",
            "Dress",
            "Coat",
            "Sandal",
            "Shirt",
            "Sneaker",
            "Bag",
            "Ankle boot",
        ),
        splits=_pairs(
            (60_000, 10_000),
            (26_421_880, 29_515, 4_422_102, 5_148),
            "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        ),
        mirrors=(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
    ),
    IdxPairs(
        name="kmnist",
        provenance=Provenance(
            "Kuzushiji-MNIST, cursive Japanese characters",
            "CC BY-SA 4.0",
            "http://codh.rois.ac.jp/kmnist/",
            "Tarin Clanuwat et al. (arXiv:1812.01718)",
        ),
        class_names=("お", "き", "す", "つ", "な", "は", "ま", "や", "れ", "を"),
        splits=_pairs(
            (60_000, 10_000),
            (18_165_135, 29_497, 3_041_136, 5_120),
            "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        ),
        mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    ),
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
    IdxPairs(
        name="sample",
        tried=True,
        provenance=Provenance("Digits drawn by pixelprep's scripts/make_sample.py", "CC0 1.0"),
        class_names=DIGITS,
        splits=_pairs(
            (6_000, 1_000),
            (670_617, 3_072, 112_572, 524),
            "20034498f119aea6ead52cbd2d156a679b67df5766d3994ee4b6916fe0516294",
            "f793de2ec33ff84f23332233f397d3de7aa75e68feebafbcdc0f223215a429df",
            "13f76480e5616929187096e42d5023ebf2d39afa1e813a7fb9cffac383d2443f",
            "ea7aa493081aa67ec5918a1a9692ab2ad40d42bea454ca042465df6a80009ac3",
            "7a7a7cfe5d8077bbbbe639c9146270135382483ae73c06766dca815a01fec441",
            "a93d990c5e312d7a18111b488d0469ef64203b5a1a1b695851811ee40f1bdfe6",
            "50c9b0b7faaebd48a0e28c8a1139b8e27eb589d90d9c16ea074ee1c5eada1ff9",
            "2d51de1b3ca810706031ece05f042799b7616c4b5cc1b2f6d7db2f00fcdfaa02",
        ),
        embedded=True,
    ),
)

REGISTRY: Mapping[str, RegisteredDataset] = MappingProxyType({d.name: d for d in DATASETS})


def known_name(name: str) -> str | None:
    """Return the known name that is spelled like this one, but for case, blanks and signs."""
    return SPELLED.get(_letters(name))


def _letters(name: str) -> str:
    return re.sub(r"[\s/_-]", "", name).lower()


# MedMNIST's parts are known without its name, too, as nothing else is called so.
OTHERWISE = {"cifar100fine": "cifar100", "patchcamelyon": "pcam"}
OTHERWISE |= {"oxfordflowers102": "flowers102"} | {
    _letters(part.spelled.removeprefix("medmnist/")): part.name for part in MEDMNIST
}
SPELLED = {**OTHERWISE, **{_letters(name): name for name in REGISTRY}}
