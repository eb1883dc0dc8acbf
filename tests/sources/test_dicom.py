"""DICOM: what its numbers mean, however they are packed, and not a word of whom it shows."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from pixelprep.installation import install_command
from pixelprep.sources.pictures import dicom
from pixelprep.sources.pictures.image_file import ImageDecoder
from tests.helpers.pictures import read, refusal
from tests.helpers.sources import raw_of

RANDOM = np.random.default_rng(0)
CT, MPEG2 = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.4.100"
PLAIN = pydicom.uid.ExplicitVRLittleEndian
GREY_12 = RANDOM.integers(0, 4096, (9, 7), np.uint16)
RGB = RANDOM.integers(0, 256, (9, 7, 3), np.uint8)
WHO = "Nobody^Knows"


def dicom_file(
    pixels: np.ndarray | None, syntax: str = PLAIN, packed: bytes | None = None, **elements: Any
) -> bytes:
    """Return a DICOM file of numbers (H, W) or (H, W, 3), or of what they are packed to."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = UID(syntax), UID(CT)
    meta.MediaStorageSOPInstanceUID = UID("1.2.3")
    held = FileDataset("", {}, preamble=bytes(128), file_meta=meta)
    held.SOPClassUID, held.SOPInstanceUID = CT, "1.2.3"
    held.PatientName, held.PatientID = WHO, WHO
    if pixels is not None:
        held.Rows, held.Columns, held.SamplesPerPixel = *pixels.shape[:2], pixels[0, 0].size
        held.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
        held.PlanarConfiguration = 0
        held.BitsAllocated = held.BitsStored = 8 * pixels.dtype.itemsize
        held.PixelRepresentation = int(pixels.dtype.kind == "i")
        stored = pixels.tobytes() if packed is None else encapsulate([packed])
        held.PixelData = stored + b"\0" * (len(stored) % 2)
    for name, value in elements.items():
        setattr(held, name, value)
    held.HighBit = held.get("BitsStored", 1) - 1
    file = io.BytesIO()
    held.save_as(file, enforce_file_format=True)
    return file.getvalue()


SIGNED = GREY_12.astype(np.int16) - 2048
LARGE = GREY_12.astype(np.uint32) << 18
MEANINGS: dict[str, tuple[np.ndarray, dict[str, Any], np.ndarray]] = {
    "as stored": (GREY_12, {}, GREY_12),
    "of no effect": (GREY_12, {"RescaleSlope": 1, "RescaleIntercept": 0}, GREY_12),
    "Hounsfield units": (
        GREY_12,
        {"BitsStored": 12, "RescaleSlope": 1, "RescaleIntercept": -1024},
        GREY_12.astype(np.int16) - 1024,
    ),
    "more than 16 bits hold": (
        SIGNED,
        {"RescaleSlope": 1, "RescaleIntercept": -1024},
        SIGNED.astype(np.float32) - 1024,
    ),
    "fractions": (
        GREY_12,
        {"RescaleSlope": "0.283845", "RescaleIntercept": "-3.5"},
        (GREY_12 * 0.283845 - 3.5).astype(np.float32),
    ),
    "dose": (LARGE, {"DoseGridScaling": "1e-6"}, LARGE * 1e-6),
    "32 bits": (LARGE, {}, LARGE.astype(np.float64)),
    "black is the highest": (
        GREY_12,
        {"BitsStored": 12, "PhotometricInterpretation": "MONOCHROME1"},
        4095 - GREY_12,
    ),
    "signed, black is the highest": (
        SIGNED,
        {"PhotometricInterpretation": "MONOCHROME1"},
        -1 - SIGNED,
    ),
    "bits that mean nothing": (GREY_12 | 0xF000, {"BitsStored": 12}, GREY_12),
}


@pytest.mark.parametrize("kind", MEANINGS)
def test_values_are_what_slope_and_intercept_make_of_them(tmp_path: Path, kind: str) -> None:
    """They are integers where 16 bits hold all that the file's bits can be, else floats."""
    stored, elements, expected = MEANINGS[kind]
    found = read(dicom_file(stored, **elements), tmp_path / "x.dcm")
    assert found.dtype == expected.dtype
    assert np.array_equal(found[..., 0], expected)


def test_a_frame_may_have_its_own_slope(tmp_path: Path) -> None:
    """Files of several frames say how to rescale each; they are no image, but the first is."""
    group, transform = pydicom.Dataset(), pydicom.Dataset()
    transform.RescaleSlope, transform.RescaleIntercept = 2, -100
    group.PixelValueTransformationSequence = [transform]
    two = np.concatenate([GREY_12, GREY_12 // 2])
    content = dicom_file(
        two, NumberOfFrames=2, Rows=9, BitsStored=12, PerFrameFunctionalGroupsSequence=[group]
    )
    assert "has 2 pages or frames" in refusal(content, tmp_path / "x").message
    found = read(content, tmp_path / "x", page="first")
    assert np.array_equal(found[..., 0], GREY_12.astype(int) * 2 - 100)


PACKERS: dict[str, tuple[str, Callable[..., Any]]] = {
    "JPEG-LS": ("1.2.840.10008.1.2.4.80", lambda p: imagecodecs.jpegls_encode(p)),
    "JPEG 2000": ("1.2.840.10008.1.2.4.90", lambda p: imagecodecs.jpeg2k_encode(p, codecformat=0)),
    "JPEG lossless": ("1.2.840.10008.1.2.4.57", lambda p: imagecodecs.ljpeg_encode(p)),
    "JPEG lossless, first order": (
        "1.2.840.10008.1.2.4.70",
        lambda p: imagecodecs.jpeg8_encode(p, lossless=True, predictor=1),
    ),
}


@pytest.mark.parametrize("bits", [8, 12, 16])
@pytest.mark.parametrize("packer", PACKERS)
def test_packed_pixels_are_unpacked(tmp_path: Path, packer: str, bits: int) -> None:
    """Lossless compression gives the very numbers, signed ones too where it has no sign."""
    syntax, pack = PACKERS[packer]
    stored = (GREY_12.astype(np.uint32) << 4 >> (16 - bits)).astype("u1" if bits == 8 else "u2")
    content = dicom_file(stored, syntax, bytes(pack(stored)), BitsStored=bits)
    assert np.array_equal(read(content, tmp_path / "x")[..., 0], stored)
    signed = stored.view(f"i{stored.itemsize}") << (8 * stored.itemsize - bits)
    signed >>= 8 * stored.itemsize - bits  # the sign of fewer bits than 16
    if packer != "JPEG 2000":  # which has signs of its own
        content = dicom_file(signed, syntax, bytes(pack(stored)), BitsStored=bits)
        assert np.array_equal(read(content, tmp_path / "x")[..., 0], signed)


def test_colours_of_any_kind_are_red_green_and_blue(tmp_path: Path) -> None:
    """RGB, planes of it, run lengths, luma and chroma, and palettes."""
    path = tmp_path / "x"
    assert np.array_equal(read(dicom_file(RGB), path), RGB)
    planes = np.moveaxis(RGB, 2, 0).tobytes()
    content = dicom_file(RGB, PlanarConfiguration=1, PixelData=planes + b"\0")
    assert np.array_equal(read(content, path), RGB)
    luma = pydicom.pixels.convert_color_space(RGB, "RGB", "YBR_FULL")
    found = read(dicom_file(luma, PhotometricInterpretation="YBR_FULL"), path)
    assert np.abs(found.astype(int) - RGB).max() <= 2  # rounded twice
    palette = RANDOM.integers(0, 65536, (3, 256), np.uint16)
    parts = zip(("Red", "Green", "Blue"), palette, strict=True)
    tables = {f"{name}PaletteColorLookupTableData": part.tobytes() for name, part in parts}
    for name in ("Red", "Green", "Blue"):
        tables[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
    content = dicom_file(RGB[..., 0], PhotometricInterpretation="PALETTE COLOR", **tables)
    assert np.array_equal(read(content, path), np.moveaxis(palette[:, RGB[..., 0]], 0, 2))


def test_size_and_color_are_those_of_other_images(tmp_path: Path) -> None:
    """Numbers are resized as they are, and grey becomes three equal channels."""
    content = dicom_file(SIGNED, RescaleSlope="0.5", RescaleIntercept=0)
    found = read(content, tmp_path / "x", size=(4, 5), color="rgb")
    assert (found.shape, found.dtype.name) == ((4, 5, 3), "float32")
    assert np.array_equal(found[..., 0], found[..., 2])


REFUSED: dict[str, tuple[bytes, str]] = {
    "no pixels": (dicom_file(None), "a DICOM of CT Image Storage, which has no pixels"),
    "a film": (
        dicom_file(RGB[..., 0], MPEG2, b"nothing"),
        "a DICOM of CT Image Storage, 8-bit MONOCHROME2, packed by"
        " MPEG2 Main Profile / Main Level, which is not read",
    ),
    "a table": (
        dicom_file(GREY_12, ModalityLUTSequence=[pydicom.Dataset()]),
        "a DICOM of CT Image Storage, 16-bit MONOCHROME2, whose values are in a table of its own",
    ),
    "32-bit colour": (
        dicom_file(RGB.astype(np.uint32)),
        "a DICOM of CT Image Storage, 32-bit RGB, which is not read",
    ),
    "no header": (dicom_file(RGB)[132:], "a DICOM file without its header, which is not read"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_not_read_has_a_name(tmp_path: Path, kind: str) -> None:
    """Sound files are not called damaged."""
    content, reason = REFUSED[kind]
    error = refusal(content, tmp_path / "x.dcm")
    assert error.message == f"{tmp_path / 'x.dcm'}: {reason}"
    assert not error.is_damage


def test_what_is_cut_short_is_damaged(tmp_path: Path) -> None:
    """So is a file that does not say how large its image is."""
    for cut in (1, 50, 126):
        assert refusal(dicom_file(GREY_12)[:-cut], tmp_path / "x").is_damage
    content = dicom_file(GREY_12).replace(b"\x28\0\x10\0US", b"\x28\0\x0f\0US")
    assert refusal(content, tmp_path / "x").message.endswith("a DICOM without Rows")


def test_without_pydicom_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one line, and not that the file is damaged."""
    monkeypatch.setitem(sys.modules, "pydicom", None)
    error = refusal(dicom_file(RGB), tmp_path / "x.dcm")
    assert error.message.endswith("a DICOM file, which needs pydicom, which is not installed")
    assert error.hint == install_command("scientific")


def test_no_element_about_a_person_is_read() -> None:
    """All that is asked of pydicom is about the picture: groups 0008 (its kind alone) and above."""
    tags = [tag_for_keyword(name) for name in dicom.ELEMENTS]
    assert None not in tags
    assert not [tag for tag in tags if tag is not None and tag >> 16 == 0x10]
    assert [name for name in dicom.ELEMENTS if re.search("Name|Patient|Date|Time", name)] == []


def test_that_values_are_rescaled_is_recorded(tmp_path: Path) -> None:
    """Folders with DICOM in them have another record than folders without."""
    path = tmp_path / "x.dcm"
    path.write_bytes(dicom_file(GREY_12))
    assert ImageDecoder().with_reference([str(path)]).record()["values"] == "rescaled"
    assert "values" not in ImageDecoder().record()


def test_files_without_an_ending_are_known(tmp_path: Path) -> None:
    """As scanners write them: by the mark behind the preamble, and recorded as others are."""
    for number, name in enumerate(["a", "a", "b", "b"]):
        path = tmp_path / "scans" / name / f"IM{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dicom_file(GREY_12 + np.uint16(number)))
    raw = raw_of(tmp_path / "scans")
    assert raw.decode["values"] == "rescaled"
    held = {*raw.splits["train"].images[:, 0, 0, 0].tolist()}
    assert held == {int(GREY_12[0, 0]) + number for number in range(4)}
