"""Describe MNIST, what is laid out like it, and `sample`: light, so that they are found soon."""

from collections.abc import Sequence

from pixelprep.format.source_record import Provenance
from pixelprep.sources.known.download import RegistryFile
from pixelprep.sources.known.registered import IdxPairs, Pair

DIGITS = tuple("0123456789")
NAMES = (
    *("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    *("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
)


def _pairs(rows: tuple[int, int], sizes: tuple[int, ...], *digests: str) -> dict[str, Pair]:
    """Describe four IDX files: images and labels of train, then of test.

    `sizes` and the first four digests are those of the archives; the rest, if known, those of the
    contents.
    """
    content_sizes = [size for count in rows for size in (16 + count * 28 * 28, 8 + count)]
    contents: Sequence[str | None] = digests[4:] or [None] * 4
    pins = zip(NAMES, sizes, digests[:4], content_sizes, contents, strict=True)
    files = [RegistryFile(*pin) for pin in pins]
    return {"train": Pair(rows[0], *files[:2]), "test": Pair(rows[1], *files[2:])}


MNIST_SETS = (
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
)

SAMPLE = IdxPairs(
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
)
