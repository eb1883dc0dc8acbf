"""Decode image files with Pillow into pixels of one size, color and dtype."""

import math
import os
import re
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pixelprep.errors import SourceError, UsageError, install_command, missing_extra
from pixelprep.format.options import RECORDED, DecodeOptions
from pixelprep.sources.lazy_arrays import AnyArray
from pixelprep.sources.pictures import (
    dicom,
    image_damage,
    image_depth,
    image_pixels,
    plain_png,
    scientific,
    tiff,
)
from pixelprep.sources.pictures.bands import Bands, UnreadError
from pixelprep.sources.pictures.members import Archive
from pixelprep.sources.pictures.met import Met
from pixelprep.system import formatting

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

SUFFIXES = (  # of files that are read
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".tif", ".tiff", ".webp"),
    *(".gif", ".avif", ".jp2", ".ppm", ".pgm", ".dcm"),
)
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF", "AVIF", "JPEG2000", "PPM")
OTHER_FORMATS = ("DDS", "ICO", "PSD", "SGI", "TGA")  # not read
OTHER_MAGIC = (  # of formats that Pillow does not know
    *((0, magic, "JPEG XL") for magic in (b"\xff\n", b"\0\0\0\x0cJXL ")),
    *((4, b"ftyp" + brand, "HEIF") for brand in (b"heic", b"heix", b"mif1", b"msf1")),
)
COLORS = {"grey": 1, "rgb": 3}  # channels, alpha aside
GREY = ("1", "L", "LA", "La")  # Pillow's modes of 8-bit grey images
GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")  # and of 16-bit ones
Box = tuple[float, float, float, float]  # left, top, right, bottom
RAW_16 = re.compile(r";16[BLN]")  # in Pillow's names of the raw modes in a file
LOG_STRETCH = math.log(1.1)  # more than a tenth is told
DRAFT_SIZES = 2  # a draft has at least so many times the size: Pillow's own `reducing_gap`
MAX_PIXELS = 89_478_485  # in one image: Pillow's own limit


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an image cannot be used as it is, and what would help."""

    kind: str  # one of those in `HELP`, or `extra`
    reason: str
    option: str = ""  # that would help

    @property
    def hint(self) -> str:
        """What to do: in words, and the option."""
        return ": ".join(filter(None, [self.help, self.option]))

    @property
    def help(self) -> str:
        """What to do, in words."""
        return install_command("scientific") if self.kind == "extra" else HELP[self.kind]


FROM_CMYK = "CMYK as RGB"  # what was done with an image
ANY_ALPHA = "`alpha=white|black|drop|keep`"
DAMAGE = "damage"
UNREAD = (DAMAGE, "type", "pixels")  # kinds of what no option or extra reads; may be left out
HELP = {
    DAMAGE: "leave out damaged images",
    "transparency": "lay images on white or black, or drop or keep their alpha",
    "pages": "take the first of each file",
    "size": "make them equal",
    "color": "make them equal",
    "depth": "keep images of 8 and 16 bits apart",
    "type": "save them as PNG or TIFF: grey or RGB of 8 or 16 bits, or floats",
    "pixels": "make them smaller first",
}


def hint_of(problems: Sequence[Problem], command: str = "") -> str:
    """Return all options that help, behind a command that has the others, and words where none
    does.
    """
    if len(problems) == 1:
        return problems[0].hint
    given = dict.fromkeys(problem.option for problem in problems if problem.option)
    options = " ".join(given).replace(ANY_ALPHA, "`alpha=white`")
    words = [problem.help for problem in problems if not problem.option]
    if ANY_ALPHA in given:
        words.insert(0, "or `alpha=black`, drop, keep")
    return "; ".join(filter(None, [f"{command} {options}" if options else "", *words])).strip()


class ImageError(SourceError):
    """An image cannot be used as it is, for one or several reasons."""

    problems: tuple[Problem, ...] = ()

    @classmethod
    def of(cls, path: str, problems: Sequence[Problem]) -> "ImageError":
        """Make the error that tells of all problems of one file."""
        reasons = dict.fromkeys(problem.reason for problem in problems)  # one may say two
        error = cls(f"{path}: {'; '.join(reasons)}", hint_of(problems))
        error.problems = tuple(problems)
        return error

    @property
    def is_damage(self) -> bool:
        """Whether the file is damaged, or no image."""
        return any(problem.kind == DAMAGE for problem in self.problems)

    @property
    def unread(self) -> Problem | None:
        """Why no option reads the file, so that it may be left out; None where one does."""
        return next((problem for problem in self.problems if problem.kind in UNREAD), None)


class _ProblemError(Exception):
    """Decoding ends here."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """The shape (H, W, C) of an image, and its dtype: integers of 8 or 16 bits, or floats."""

    shape: tuple[int, int, int]
    dtype: str

    @property
    def bytes(self) -> int:
        """The size of one image in memory."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def __str__(self) -> str:
        return f"{formatting.format_shape(self.shape)} {self.dtype}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDecoder:
    """The options by which images are decoded; without size or color, all must have the same."""

    size: tuple[int, int] | None = None  # (H, W) that images are resized to
    color: str | None = None  # grey or rgb
    orientation: str = "follow"  # or ignore
    alpha: str | None = None  # white, black, drop or keep; None: there must be none
    page: str | None = None  # first; None: there must be one
    skip: bool = False  # leave out images that cannot be read
    values: str | None = None  # rescaled, where some are DICOM; else None
    format: ImageFormat | None = None  # that all images must have
    reference: str = ""  # the path of the first image, which has that format
    folder: str = ""  # that paths start from: workers may run in another one
    archive: Archive | None = None  # that files are in
    fit: str = "stretch"  # or crop, pad: of images of another aspect than that of size
    filter: str = "bilinear"  # Pillow's name of how images are resized
    jpeg: str = "full"  # or draft: libjpeg scales by 1/2, 1/4 or 1/8 as it decodes
    met: Met | None = field(default=None, compare=False)  # counts what is decoded

    @classmethod
    def of(cls, options: DecodeOptions) -> "ImageDecoder":
        """Return the decoder for these options of `prepare`."""
        size = options.size
        assert not isinstance(size, str | int)  # checked, and so a tuple
        for name in ("fit", "filter", "jpeg"):
            value = getattr(options, name)
            if size is None and value != getattr(DecodeOptions, name):
                raise UsageError(f"`{name}={value}`: nothing is resized", "give `size=HxW`, too")
        return cls(
            size=size,
            color=options.color,
            orientation=options.orientation,
            alpha=options.alpha,
            page=options.page,
            fit=options.fit,
            filter=options.filter,
            jpeg=options.jpeg,
            skip=options.on_error == "skip",
            folder=os.fspath(Path.cwd()),
        )

    def record(self) -> dict[str, object]:
        """Return what shaped the pixels, as `Raw.decode` has it."""
        found: dict[str, object] = {"orientation": RECORDED["orientation"][self.orientation]}
        found["alpha"] = RECORDED["alpha"][self.alpha]
        if self.size:
            found |= {"size": list(self.size), "fit": self.fit, "filter": self.filter}
        if self.jpeg != DecodeOptions.jpeg:
            found["jpeg"] = self.jpeg
        if self.color:
            found["color"] = self.color
        if self.page:
            found["page"] = self.page
        if self.values:
            found["values"] = self.values
        return found

    def with_reference(self, paths: Sequence[str]) -> "ImageDecoder":
        """Return a decoder that requires the format of the first readable image."""
        first: list[Problem] = []
        values = "rescaled" if any(path.lower().endswith(".dcm") for path in paths) else None
        with strict_pillow():
            for path in paths:
                pixels, problems = self.examine(path)
                if pixels is not None:
                    usual = format_of(pixels)
                    return replace(self, format=usual, reference=path, values=values)
                first = first or problems
        reasons = [replace(problem, option="") for problem in first]  # no option helps
        error = ImageError.of(paths[0], reasons)
        none = f"none of the {len(paths):,} images could be read: {error.message}"
        raise SourceError(none, None if error.is_damage else error.hint)

    def read(self, path: str) -> AnyArray:
        """Return the pixels of an image (H, W, C). Call within `strict_pillow`.

        One that cannot be used as it is, damaged or not, is an `ImageError`; a file that cannot be
        read for other reasons is a `SourceError`.
        """
        pixels, problems = self.examine(path)
        if problems or pixels is None:
            raise ImageError.of(path, problems)
        return pixels

    def examine(self, path: str) -> tuple[AnyArray | None, list[Problem]]:
        """Return the pixels of an image as far as they can be had, and all problems of it."""
        return self.examine_bytes(path, self.content(path))

    def content(self, path: str) -> bytes:
        """Return the bytes of a file."""
        return self.archive.read(path) if self.archive else read_file(path, self.folder)

    def examine_bytes(self, path: str, content: bytes) -> tuple[AnyArray | None, list[Problem]]:
        """Do the same with the bytes of a file, wherever they come from."""
        return self._examine(path, lambda problems: self._decode(content, problems))

    def examine_image(
        self, path: str, image: "PillowImage"
    ) -> tuple[AnyArray | None, list[Problem]]:
        """Do the same with an image that Pillow has opened."""
        return self._examine(path, lambda problems: self._pixels(image, problems))

    def _examine(
        self, path: str, decode: Callable[[list[Problem]], AnyArray]
    ) -> tuple[AnyArray | None, list[Problem]]:
        problems: list[Problem] = []
        try:
            pixels = decode(problems)
        except _ProblemError as error:
            return None, [*problems, error.problem]
        except MemoryError as error:
            raise SourceError(f"{path}: not enough memory to decode it") from error
        except Exception as error:  # Pillow's plugins raise errors of all kinds
            reason = f"cannot read the image: {error}"
            # Pillow's word for what it knows, but does not read.
            if str(error).startswith("Unsupported"):
                return None, [*problems, Problem("type", reason)]
            return None, [*problems, Problem(DAMAGE, reason, "`on_error=skip`")]
        return pixels, problems + self.differences(format_of(pixels))

    def _decode(self, content: bytes, problems: list[Problem]) -> AnyArray:
        """Decode a file; add to `problems`, or raise one that ends it."""
        if dicom.is_dicom(content):
            return self._dicom(content, problems)
        tags = tiff.read_tags(content)  # none of other formats
        image_damage.check_whole(content, tags)
        if content.startswith(image_damage.PNG):
            plain = plain_png.decode(content, MAX_PIXELS)
            if plain is not None:
                return self._plain_png(plain)
        if tags and not tiff.is_read_rightly(tags):
            return self._tiff(content, tags, problems)
        if lost := image_depth.lost_type(content):
            raise _ProblemError(Problem("type", f"a {lost}, which is not read"))
        return self._by_pillow(content, tags, problems)

    def _by_pillow(self, content: bytes, tags: tiff.Tags, problems: list[Problem]) -> AnyArray:
        from PIL import Image, UnidentifiedImageError

        try:
            opened = Image.open(BytesIO(content), formats=IMAGE_FORMATS)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise _ProblemError(Problem("pixels", str(error))) from None
        except UnidentifiedImageError:
            if tags:
                return self._tiff(content, tags, problems)
            if found := _other_format(content):
                raise _ProblemError(Problem("type", f"a {found}, which is not read")) from None
            raise ValueError("not an image") from None
        with opened as image:
            if math.prod(image.size) > MAX_PIXELS:
                size = f"{image.width:,}×{image.height:,}"
                more = f"{size} pixels: expected at most {MAX_PIXELS:,}"
                raise _ProblemError(Problem("pixels", more))
            self._note("format", image.format)
            self._note("type", image.mode)
            pages = max(getattr(image, "n_frames", 1), tiff.imagej_pages(tags))
            self._check_pages(pages, problems)
            is_cut = image.mode in ("I", "F") or RAW_16.search(_raw_mode(image))
            if is_cut and not _is_deep(image):
                return self._deep_color(content, image, problems)
            return self._pixels(image, problems)

    def _plain_png(self, pixels: AnyArray) -> AnyArray:
        """Finish 8-bit grey or RGB as `_pixels` does, with Pillow only where there is a need."""
        from PIL import Image

        mode, color = ("L", "grey") if pixels.ndim == 2 else ("RGB", "rgb")
        self._note("format", "PNG")
        self._note("type", mode)
        as_is = self.color in (None, color) and self.size in (None, pixels.shape[:2])
        if not as_is or self.alpha == "keep":
            return self._shaped(Image.fromarray(pixels), None)
        self._note_size(pixels.shape[1], pixels.shape[0])
        return pixels if pixels.ndim == 3 else pixels[:, :, None]

    def _check_pages(self, pages: int, problems: list[Problem]) -> None:
        if pages > 1 and self.page is None:
            held = f"has {pages} pages or frames, of which an image is one"
            problems.append(Problem("pages", held, "`page=first`"))

    def _tiff(self, content: bytes, tags: tiff.Tags, problems: list[Problem]) -> AnyArray:
        """Read a TIFF that Pillow does not read rightly."""
        with _scientific(tiff.name(tags)):
            image, pages = scientific.read_tiff(content, tags, MAX_PIXELS)
            self._note("format", "TIFF")
            self._note("type", _type_of(image))
            self._check_pages(pages, problems)
            return self._finished(image, tags.get(tiff.ORIENTATION), problems)

    def _dicom(self, content: bytes, problems: list[Problem]) -> AnyArray:
        with _scientific("DICOM file"):
            image, frames = dicom.read(content, MAX_PIXELS)
            self._note("format", "DICOM")
            self._note("type", _type_of(image))
            self._check_pages(frames, problems)
            return self._finished(image, None, problems)

    def _deep_color(
        self, content: bytes, opened: "PillowImage", problems: list[Problem]
    ) -> AnyArray:
        """Read an image of more than 8 bits that is not grey alone, of which Pillow drops some."""
        name = f"{opened.format} of 16-bit colour"
        if opened.format != "PNG":
            raise _ProblemError(Problem("type", f"a {name}, which is not read"))
        with _scientific(name):
            image = scientific.read_png(content)
            return self._finished(image, image_pixels.orientation(opened), problems)

    def _finished(self, image: Bands, orientation: object, problems: list[Problem]) -> AnyArray:
        """Finish bands as `_pixels` does Pillow's images."""
        if image.alpha is not None and self.alpha is None:
            problems.append(_transparency(image.alpha))
        if self.orientation == "follow":
            image = image.turned(orientation)
            self._note("done", "turned" if orientation in range(2, 9) else None)
        height, width = image.pixels.shape[:2]
        self._note_size(width, height)
        return image.finished(self.alpha, self.color, self._resized if self.size else None)

    def _pixels(self, image: "PillowImage", problems: list[Problem]) -> AnyArray:
        from PIL import Image

        deep, raw_mode = _is_deep(image), _raw_mode(image)
        draft = self._draft(image)
        image, is_turned = image_pixels.load(image, self.orientation == "follow")
        self._note("done", "turned" if is_turned else None)
        self._note("done", FROM_CMYK if image.mode == "CMYK" else None)
        alpha = image_pixels.alpha_of(image, raw_mode)
        if alpha is not None and self.alpha is None:
            problems.append(_transparency(alpha))
        if deep:
            return self._deep_pixels(np.asarray(image).astype(np.uint16), alpha)
        plain = _converted(image, "grey" if image.mode in GREY else "rgb")
        if alpha is not None and self.alpha in image_pixels.BACKGROUNDS:
            laid = image_pixels.on_background(np.asarray(plain), alpha, self.alpha)
            plain = Image.fromarray(laid)
        return self._shaped(plain, alpha, draft)

    def _shaped(
        self,
        plain: "PillowImage",
        alpha: NDArray[np.uint8] | None,
        draft: tuple[Box, float] | None = None,
    ) -> AnyArray:
        """Give an 8-bit image, grey or RGB, the colours, alpha and size that are wanted."""
        from PIL import Image

        if self.color:
            plain = _converted(plain, self.color)
        if self.alpha == "keep":
            plain.putalpha(255 if alpha is None else Image.fromarray(alpha))
        whole, scale = draft or ((0, 0, *plain.size), 1)
        self._note_size(*(round((whole[i + 2] - whole[i]) * scale) for i in (0, 1)))
        pixels = np.asarray(self._resized(plain, whole))
        return pixels if pixels.ndim == 3 else pixels[:, :, None]

    def _deep_pixels(self, pixels: AnyArray, alpha: AnyArray | None) -> AnyArray:
        """Finish 16-bit grey ones, (H, W), of which Pillow knows little."""
        from PIL import Image

        if self.alpha == "keep":
            raise _ProblemError(Problem("type", "16-bit grey, whose alpha is not kept"))
        if alpha is not None and self.alpha in image_pixels.BACKGROUNDS:
            background = image_pixels.BACKGROUNDS[self.alpha] * 257
            pixels = np.where(alpha == 0, np.uint16(background), pixels)
        self._note_size(pixels.shape[1], pixels.shape[0])
        # Pillow resizes only one byte order of it correctly.
        resized = np.asarray(self._resized(Image.fromarray(pixels)))
        return np.repeat(resized[:, :, None], COLORS[self.color or "grey"], axis=2)

    def _draft(self, image: "PillowImage") -> tuple[Box, float] | None:
        """Have a JPEG decoded at a part of its size, if that is wanted and leaves enough.

        Return the box that all of it then fills, once it is turned, and how many times as large it
        is.
        """
        if self.jpeg == "full" or self.size is None:
            return None
        turn = self.orientation == "follow" and image_pixels.orientation(image)
        step = -1 if turn in (5, 6, 7, 8) else 1  # sideways: height before width
        least = self.size[::-step]
        full = image.width
        made = image.draft(None, (DRAFT_SIZES * least[0], DRAFT_SIZES * least[1]))
        if made is None:  # no JPEG
            return None
        across, down = made[1][2:][::step]  # edges may lie within the last pixels, or the first
        left = image.size[::step][0] - across if turn in (2, 3, 6, 7) else 0.0
        top = image.size[::step][1] - down if turn in (3, 4, 7, 8) else 0.0
        return (left, top, left + across, top + down), full / made[1][2]

    def _resized(self, image: "PillowImage", whole: Box | None = None) -> "PillowImage":
        """Resize an image, all of it or the box that it fills."""
        from PIL import Image

        if self.size is None:
            return image
        (height, width), resample = self.size, Image.Resampling[self.filter.upper()]
        whole = whole or (0, 0, *image.size)
        across, down = whole[2] - whole[0], whole[3] - whole[1]
        if self.fit == "stretch":
            return image.resize((width, height), resample, whole)
        if self.fit == "crop":
            aspect, kept = width / height, (across, down)  # in the arithmetic of Pillow's `fit`
            if across / down > aspect:
                kept = aspect * down, down
            elif across / down < aspect:
                kept = across, across / aspect
            left, top = whole[0] + (across - kept[0]) * 0.5, whole[1] + (down - kept[1]) * 0.5
            box = (left, top, left + kept[0], top + kept[1])
            return image.resize((width, height), resample, box)
        scale = min(width / across, height / down)
        inner = [max(1, round(side * scale)) for side in (across, down)]  # `pad` gives 0, too
        padded = Image.new(image.mode, (width, height), 0)
        corner = (width - inner[0]) // 2, (height - inner[1]) // 2
        padded.paste(image.resize((inner[0], inner[1]), resample, whole), corner)
        return padded

    def _note(self, kind: str, what: str | None) -> None:
        if self.met is not None and what is not None:
            self.met.note(kind, what)

    def _note_size(self, width: int, height: int) -> None:
        """Count an image of this size; and if it is resized, or stretched by more than a little."""
        self._note("size", f"{height}×{width}")  # the order that the option has, and shapes
        if self.met is None or self.size in (None, (height, width)):
            return
        self.met.note("done", "resized")
        assert self.size is not None
        aspect = width / height
        is_stretched = abs(math.log(aspect * self.size[0] / self.size[1])) > LOG_STRETCH
        if self.fit == "stretch" and is_stretched:
            self.met.note_stretched(aspect)

    def differences(self, found: ImageFormat) -> list[Problem]:
        """Tell in what an image is unlike the format that all must have."""
        expected = self.format
        if expected is None or found == expected:
            return []
        reason = f"is {found}, but {self.reference} is {expected}"
        (height, width, channels), kept = expected.shape, self.alpha == "keep"
        problems = []
        if found.shape[:2] != (height, width):
            problems.append(Problem("size", reason, f"`size={height}x{width}`"))
        if found.dtype != expected.dtype:
            problems.append(Problem("depth", reason))
        elif found.shape[2] != channels:
            color = "rgb" if max(channels, found.shape[2]) - kept == 3 else "grey"
            problems.append(Problem("color", reason, f"`color={color}`"))
        return problems


def _transparency(alpha: AnyArray) -> Problem:
    found = f"has transparency, alpha {alpha.min()} to {alpha.max()}"
    return Problem("transparency", found, ANY_ALPHA)


@contextmanager
def _scientific(name: str) -> Iterator[None]:
    """Tell what a file is where the libraries that read it are missing, or do not."""
    try:
        yield
    except ImportError as error:
        missing = f"a {name}, which needs {error.name}, which is not installed"
        raise _ProblemError(Problem("extra", missing)) from None
    except UnreadError as error:
        raise _ProblemError(Problem(error.kind, str(error))) from None
    except NotImplementedError:  # tifffile's
        raise _ProblemError(Problem("type", f"a {name}, which is not read")) from None


def _converted(image: "PillowImage", color: str) -> "PillowImage":
    mode = "L" if color == "grey" else "RGB"
    return image if image.mode == mode else image.convert(mode)


def format_of(pixels: AnyArray) -> ImageFormat:
    """Return the format of an image's pixels (H, W, C)."""
    height, width, channels = pixels.shape
    return ImageFormat((height, width, channels), pixels.dtype.name)


def _is_deep(image: "PillowImage") -> bool:
    """Tell whether an image is grey of 16 bits, which Pillow keeps."""
    return image.mode in GREY_16 or (image.mode, image.format) == ("I", "PPM")


def _type_of(image: Bands) -> str:
    channels = image.pixels.shape[2]
    return f"{formatting.pluralize(channels, 'band')} of {image.pixels.dtype}"


def _raw_mode(image: "PillowImage") -> str:
    """Return Pillow's name of how a file stores pixels; empty where it has none."""
    for *_, args in getattr(image, "tile", ()):
        return str(args if isinstance(args, str) else args[0] if args else "")
    return ""


def _other_format(content: bytes) -> str | None:
    """Return the name of the format of a sound image that is not read, if it is one."""
    from PIL import Image

    with suppress(Exception), Image.open(BytesIO(content), formats=OTHER_FORMATS) as image:
        frames = getattr(image, "n_frames", 1)
        return f"{image.format} of {frames} frames" if frames > 1 else f"{image.format} file"
    if content.startswith(image_damage.JPEG):
        return image_damage.jpeg_name(content)
    for at, magic, name in OTHER_MAGIC:
        if content[at:].startswith(magic):
            return f"{name} file"
    return "DICOM file without its header" if dicom.lacks_header(content) else None


def read_file(path: str, folder: str = "") -> bytes:
    """Return a file's content; where the system refuses it, this says nothing of the image."""
    try:
        file_path = os.path.join(folder, path)  # noqa: PTH118 - thousands of them
        with open(file_path, "rb", buffering=0) as file:  # noqa: PTH123 - likewise
            return file.read()  # one read, where Pillow makes many
    except OSError as error:
        raise SourceError(f"{path}: cannot read: {error.strerror}") from error


def is_picture(content: bytes) -> bool:
    """Return whether a file is one of the formats that are read, by its first bytes."""
    from PIL import Image

    Image.init()
    return dicom.is_dicom(content) or any(
        accept is None or accept(content[:16]) is True
        for _, accept in map(Image.OPEN.__getitem__, IMAGE_FORMATS)
    )


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Turn Pillow's warnings of decompression bombs into errors; silence its others.

    The filters are the process's: the first thread sets them, and the last sets them back.
    """
    from PIL import Image

    with _STRICT.lock:
        _STRICT.threads += 1
        if _STRICT.threads == 1:
            _STRICT.filters = warnings.catch_warnings()
            _STRICT.filters.__enter__()
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        yield
    finally:
        with _STRICT.lock:
            _STRICT.threads -= 1
            if not _STRICT.threads:
                _STRICT.filters.__exit__(None, None, None)


@dataclass(slots=True)
class _Strict:
    """How many threads are strict with Pillow, and the filters of warnings to be set back."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    threads: int = 0
    filters: Any = None  # Any: `catch_warnings` has a parameter of no use here


_STRICT = _Strict()


def require(purpose: str = "a folder of images") -> None:
    """Raise `MissingExtraError` if Pillow is not installed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise missing_extra("Pillow", "images", purpose) from error
