"""Declare the two-dimensional sets of MedMNIST (28×28).

Digests, counts, names and licences as in the package medmnist 3.0.2, `info.py`.
"""

from pixelprep.sources.base import Provenance
from pixelprep.sources.known.download import RegistryFile
from pixelprep.sources.known.npz_sets import ArchiveKey, NpzSet

SPLITS = ("train", "val", "test")
ORGANS = (
    "bladder",
    "femur-left",
    "femur-right",
    "heart",
    "kidney-left",
    "kidney-right",
    "liver",
    "lung-left",
    "lung-right",
    "pancreas",
    "spleen",
)

# As TensorFlow Datasets has them.
PNEUMONIA = (4_170_669, "e1792d3f03751cb101e99f19a63b3c1941436c988665f47853417b05be250cd8")


def _set(
    name: str,
    title: str,
    md5: str,
    rows: tuple[int, ...],
    class_names: tuple[str, ...],
    channels: int = 1,
    task: str = "classification",
    licence: str = "CC BY 4.0",
    pin: tuple[int, str] | None = None,
) -> NpzSet:
    """Describe one set: an archive with images and labels of each split.

    `pin` has its bytes and SHA-256 where these are published, as the MD5 is of all.
    """
    columns = len(class_names) if task == "multilabel" else 1
    content = sum(rows) * (28 * 28 * channels + 8 * columns) + (1 << 16)  # a limit
    size, sha256 = pin or (None, None)
    file = RegistryFile(f"{name}.npz", size, sha256, content, md5=md5)
    return NpzSet(
        name=f"medmnist-{name}",
        group="medmnist",
        provenance=Provenance(
            f"MedMNIST: {title}",
            licence,
            "https://github.com/MedMNIST/MedMNIST/",
            "Jiancheng Yang et al.: MedMNIST v2, Scientific Data 10, 2023",
        ),
        class_names=class_names,
        counts=dict(zip(SPLITS, rows, strict=True)),
        shape=(28, 28, channels),
        task=task,
        places={
            split: (ArchiveKey(file, f"{split}_images"), ArchiveKey(file, f"{split}_labels"))
            for split in SPLITS
        },
        mirrors=("https://zenodo.org/records/10519652/files/",),
    )


MEDMNIST = (
    _set(
        "pathmnist",
        "tissue of colorectal cancer",
        "a8b06965200029087d5bd730944a56c1",
        (89_996, 10_004, 7_180),
        (
            "adipose",
            "background",
            "debris",
            "lymphocytes",
            "mucus",
            "smooth muscle",
            "normal colon mucosa",
            "cancer-associated stroma",
            "colorectal adenocarcinoma epithelium",
        ),
        channels=3,
    ),
    _set(
        "chestmnist",
        "X-rays of the chest, 14 findings",
        "02c8a6516a18b556561a56cbdd36c4a8",
        (78_468, 11_219, 22_433),
        (
            "atelectasis",
            "cardiomegaly",
            "effusion",
            "infiltration",
            "mass",
            "nodule",
            "pneumonia",
            "pneumothorax",
            "consolidation",
            "edema",
            "emphysema",
            "fibrosis",
            "pleural",
            "hernia",
        ),
        task="multilabel",
    ),
    _set(
        "dermamnist",
        "pigmented skin lesions",
        "0744692d530f8e62ec473284d019b0c7",
        (7_007, 1_003, 2_005),
        (
            "actinic keratoses and intraepithelial carcinoma",
            "basal cell carcinoma",
            "benign keratosis-like lesions",
            "dermatofibroma",
            "melanoma",
            "melanocytic nevi",
            "vascular lesions",
        ),
        channels=3,
        licence="CC BY-NC 4.0",
    ),
    _set(
        "octmnist",
        "optical coherence tomography of the retina",
        "c68d92d5b585d8d81f7112f81e2d0842",
        (97_477, 10_832, 1_000),
        (
            "choroidal neovascularization",
            "diabetic macular edema",
            "drusen",
            "normal",
        ),
    ),
    _set(
        "pneumoniamnist",
        "X-rays of children's chests",
        "28209eda62fecd6e6a2d98b1501bb15f",
        (4_708, 524, 624),
        (
            "normal",
            "pneumonia",
        ),
        pin=PNEUMONIA,
    ),
    _set(
        "retinamnist",
        "photographs of the retina, severity of retinopathy",
        "bd4c0672f1bba3e3a89f0e4e876791e4",
        (1_080, 120, 400),
        (
            "0",
            "1",
            "2",
            "3",
            "4",
        ),
        channels=3,
    ),
    _set(
        "breastmnist",
        "ultrasound of the breast",
        "750601b1f35ba3300ea97c75c52ff8f6",
        (546, 78, 156),
        (
            "malignant",
            "normal, benign",
        ),
    ),
    _set(
        "bloodmnist",
        "microscopy of blood cells",
        "7053d0359d879ad8a5505303e11de1dc",
        (11_959, 1_712, 3_421),
        (
            "basophil",
            "eosinophil",
            "erythroblast",
            "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
            "lymphocyte",
            "monocyte",
            "neutrophil",
            "platelet",
        ),
        channels=3,
    ),
    _set(
        "tissuemnist",
        "microscopy of kidney cells",
        "ebe78ee8b05294063de985d821c1c34b",
        (165_466, 23_640, 47_280),
        (
            "Collecting Duct, Connecting Tubule",
            "Distal Convoluted Tubule",
            "Glomerular endothelial cells",
            "Interstitial endothelial cells",
            "Leukocytes",
            "Podocytes",
            "Proximal Tubule Segments",
            "Thick Ascending Limb",
        ),
    ),
    _set(
        "organamnist",
        "CT of organs, axial",
        "68e3f8846a6bd62f0c9bf841c0d9eacc",
        (34_561, 6_491, 17_778),
        ORGANS,
    ),
    _set(
        "organcmnist",
        "CT of organs, coronal",
        "b9ceb9546e10131b32923c5bbeaea2b1",
        (12_975, 2_392, 8_216),
        ORGANS,
    ),
    _set(
        "organsmnist",
        "CT of organs, sagittal",
        "9ab87b696fb54e2a387ebe992d6ed5f1",
        (13_932, 2_452, 8_827),
        ORGANS,
    ),
)
