"""Read DICOM images with pydicom: their values, and nothing of whom they show."""

from io import BytesIO
from typing import Any  # Any: pydicom's data sets and what these hold

import numpy as np

from pixelprep.sources.lazy_arrays import AnyArray
from pixelprep.sources.pictures.bands import Bands, UnreadError

MAGIC_AT, MAGIC = 128, b"DICM"
FUNCTIONAL_GROUPS = ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence")
# All that is read of a file: no word about a patient comes into memory as such.
ELEMENTS = [
    *("SOPClassUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("NumberOfFrames", "Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "RescaleSlope", "RescaleIntercept", "DoseGridScaling"),
    *(f"{color}PaletteColorLookupTable{part}" for color in ("Red", "Green", "Blue")
      for part in ("Descriptor", "Data")),
    *(f"Segmented{color}PaletteColorLookupTableData" for color in ("Red", "Green", "Blue")),
    *("ModalityLUTSequence", *FUNCTIONAL_GROUPS),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData", "ExtendedOffsetTable"),
    "ExtendedOffsetTableLengths",
]  # fmt: skip
NEEDED = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "PhotometricInterpretation")
COLORS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")  # that become RGB
GREY = ("MONOCHROME1", "MONOCHROME2")  # 1: the highest value is black
BY_IMAGECODECS = {  # what Pillow and pydicom itself do not decode, or not every depth of
    "JPEGExtended12Bit": "jpeg8_decode",
    "JPEGLossless": "ljpeg_decode",
    "JPEGLosslessSV1": "ljpeg_decode",
    "JPEGLSLossless": "jpegls_decode",
    "JPEGLSNearLossless": "jpegls_decode",
    "JPEG2000Lossless": "jpeg2k_decode",
    "JPEG2000": "jpeg2k_decode",
    "HTJ2KLossless": "jpeg2k_decode",
    "HTJ2KLosslessRPCL": "jpeg2k_decode",
    "HTJ2K": "jpeg2k_decode",
}
PLUGINS = {"JPEGBaseline8Bit": "pillow", "JPEGExtended12Bit": "pillow", "RLELossless": "pydicom"}


def lacks_header(content: bytes) -> bool:
    """Tell whether a file that is of no known format begins as DICOM's data do behind a header."""
    return content[:2] in (b"\2\0", b"\x08\0", b"\0\x08")


def is_dicom(content: bytes) -> bool:
    """Tell whether a file says that it is DICOM."""
    return content[MAGIC_AT : MAGIC_AT + len(MAGIC)] == MAGIC


def read(content: bytes, max_pixels: int) -> tuple[Bands, int]:
    """Return the first frame of a DICOM file, and how many it has.

    Grey is what slope and intercept make of the stored numbers (of CT: Hounsfield units), which
    are turned over first where the highest is black. It is of integers of 8 or 16 bits where all
    that the file's bits can hold comes out as such, else of floats.
    """
    from pydicom import dcmread

    found = dcmread(BytesIO(content), specific_tags=[*ELEMENTS])
    name, frames = _name(found), _checked(found, max_pixels)
    photometric = found.PhotometricInterpretation
    pixels = _stored(found, name)
    if photometric == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        pixels = apply_color_lut(pixels, found)
    if photometric in GREY:
        return Bands(_values(pixels, found)[:, :, None], "grey"), frames
    if pixels.dtype.itemsize > 2:
        raise UnreadError(f"a {name}, which is not read")
    return Bands(pixels, "rgb"), frames


def _name(found: Any) -> str:
    stated = found.get("SOPClassUID") or found.file_meta.get("MediaStorageSOPClassUID")
    kind = getattr(stated, "name", "unknown kind")
    bits, photometric = found.get("BitsStored"), found.get("PhotometricInterpretation")
    return f"DICOM of {kind}" + (f", {bits}-bit {photometric}" if photometric else "")


def _checked(found: Any, max_pixels: int) -> int:
    """Return the number of frames; refuse what is not read."""
    name = _name(found)
    if not any(held in found for held in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise UnreadError(f"a {name}, which has no pixels")
    if "TransferSyntaxUID" not in found.file_meta:
        raise UnreadError(f"a {name}, which does not say how its pixels are packed")
    if missing := [name for name in NEEDED if name not in found]:
        raise ValueError(f"a DICOM without {' and '.join(missing)}")
    photometric = found.PhotometricInterpretation
    if photometric not in (*GREY, *COLORS, "PALETTE COLOR"):
        raise UnreadError(f"a {name}, which is not read")
    if found.get("ModalityLUTSequence"):
        raise UnreadError(f"a {name}, whose values are in a table of its own")
    if found.Rows * found.Columns > max_pixels:
        size = f"{found.Columns:,}×{found.Rows:,}"
        raise UnreadError(f"has {size} pixels: expected at most {max_pixels:,}", "pixels")
    return int(found.get("NumberOfFrames") or 1)


def _stored(found: Any, name: str) -> AnyArray:
    """Return the numbers of the first frame, (H, W) or colours (H, W, 3)."""
    from pydicom.pixels import pixel_array

    syntax = found.file_meta.TransferSyntaxUID
    decode = BY_IMAGECODECS.get(syntax.keyword)
    if syntax.keyword == "JPEGExtended12Bit" and found.BitsStored == 8:
        decode = None
    if decode:
        _unpack(found, decode)
    elif syntax.is_encapsulated and syntax.keyword not in PLUGINS:
        raise UnreadError(f"a {name}, packed by {syntax.name}, which is not read")
    pixels: AnyArray = pixel_array(
        found, index=0, decoding_plugin="" if decode else PLUGINS.get(syntax.keyword, "")
    )
    return pixels.astype(pixels.dtype.newbyteorder("="))


def _unpack(found: Any, decode: str) -> None:
    """Let a data set hold the plain numbers of its first frame, unpacked by imagecodecs."""
    import imagecodecs
    from pydicom.encaps import get_frame
    from pydicom.uid import ExplicitVRLittleEndian

    frames = int(found.get("NumberOfFrames") or 1)
    frame = get_frame(found.PixelData, 0, number_of_frames=frames)
    pixels: AnyArray = getattr(imagecodecs, decode)(frame)
    shape = (found.Rows, found.Columns, found.SamplesPerPixel)
    if pixels.size != np.prod(shape) or pixels.shape[:2] != shape[:2]:
        raise ValueError(f"expected pixels of {shape}, got {pixels.shape}")
    found.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.BitsAllocated, found.PlanarConfiguration = 8 * pixels.dtype.itemsize, 0
    found.NumberOfFrames = 1
    if found.PhotometricInterpretation in ("YBR_ICT", "YBR_RCT"):
        found.PhotometricInterpretation = "RGB"  # which these are once they are unpacked


def _values(stored: AnyArray, found: Any) -> AnyArray:
    """Return what stored numbers of grey mean."""
    slope, intercept = _rescale(found)
    if stored.dtype.kind == "f":
        return stored if (slope, intercept) == (1, 0) else stored * slope + intercept
    bits, signed = int(found.BitsStored), stored.dtype.kind == "i"
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    values = stored.astype(np.float64)  # as which integers of 32 bits are exact
    if found.PhotometricInterpretation == "MONOCHROME1":
        values = low + high - values
    ends = sorted(end * slope + intercept for end in (low, high))
    return (values * slope + intercept).astype(_type(stored.dtype, slope, intercept, ends))


def _rescale(found: Any) -> tuple[float, float]:
    """Return slope and intercept; those of the first frame where each has its own."""
    held = [found]
    for groups in FUNCTIONAL_GROUPS:
        for group in found.get(groups) or []:
            held += group.get("PixelValueTransformationSequence") or []
            break
    for one in held:
        if "RescaleSlope" in one or "RescaleIntercept" in one:
            return float(one.get("RescaleSlope", 1)), float(one.get("RescaleIntercept", 0))
    return float(found.get("DoseGridScaling", 1)), 0.0


def _type(
    stored: np.dtype[Any], slope: float, intercept: float, ends: list[float]
) -> np.dtype[Any]:
    """Return the type that holds all values: the stored one, 16 bits, or floats."""
    if slope.is_integer() and intercept.is_integer():
        for kind in (stored, np.dtype(np.int16), np.dtype(np.uint16)):
            if kind.itemsize <= 2 and _holds(kind, ends):
                return kind
        if max(map(abs, ends)) > 1 << 24:  # from where on float32 leaves integers out
            return np.dtype(np.float64)
    return np.dtype(np.float32 if stored.itemsize <= 2 else np.float64)


def _holds(kind: np.dtype[Any], ends: list[float]) -> bool:
    limits = np.iinfo(kind)
    return limits.min <= ends[0] and ends[1] <= limits.max
