"""Decode image files with Pillow into pixels of one size, color and dtype."""

import math
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pixelprep.errors import SourceError, missing_extra
from pixelprep.format.options import RECORDED, DecodeOptions
from pixelprep.sources import image_damage, image_pixels, tiff
from pixelprep.sources.lazy_arrays import AnyArray
from pixelprep.system import formatting

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")  # of files that are read
IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
OTHER_FORMATS = ("AVIF", "DDS", "GIF", "ICO", "JPEG2000", "PPM", "PSD", "SGI", "TGA")  # not read
COLORS = {"grey": 1, "rgb": 3}  # channels, alpha aside
GREY = ("1", "L", "LA", "La")  # Pillow's modes of 8-bit grey images
GREY_16 = ("I;16", "I;16L", "I;16B", "I;16N")  # and of 16-bit ones
RAW_16 = re.compile(r";16[BLN]")  # in Pillow's names of the raw modes in a file
MAX_PIXELS = 89_478_485  # in one image: Pillow's own limit


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an image cannot be used as it is, and what would help."""

    kind: str  # one of those in `HELP`
    reason: str
    option: str = ""  # that would help

    @property
    def hint(self) -> str:
        """What to do: in words, and the option."""
        return ": ".join(filter(None, [HELP[self.kind], self.option]))


DAMAGE = "damage"
HELP = {
    DAMAGE: "leave out damaged images",
    "transparency": "lay images on white or black, or drop or keep their alpha",
    "pages": "take the first of each file",
    "size": "make them equal",
    "color": "make them equal",
    "depth": "keep images of 8 and 16 bits apart",
    "type": "convert them to 8-bit colour, or 8- or 16-bit grey",
    "pixels": "make them smaller first",
}


def hint_of(problems: Sequence[Problem]) -> str:
    """Return all options that help, and words where none does."""
    if len(problems) == 1:
        return problems[0].hint
    options = " ".join(dict.fromkeys(problem.option for problem in problems if problem.option))
    words = [HELP[problem.kind] for problem in problems if not problem.option]
    return "; ".join(filter(None, [options, *words]))


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


class _ProblemError(Exception):
    """Decoding ends here."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """The shape (H, W, C) of an image, and its dtype: uint8 or uint16."""

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
    skip: bool = False  # leave out damaged images
    format: ImageFormat | None = None  # that all images must have
    reference: str = ""  # the path of the first image, which has that format
    folder: str = ""  # that paths start from: workers may run in another one

    @classmethod
    def of(cls, options: DecodeOptions) -> "ImageDecoder":
        """Return the decoder for these options of `prepare`."""
        size = options.size
        assert not isinstance(size, str)  # checked, and so a tuple
        return cls(
            size=size,
            color=options.color,
            orientation=options.orientation,
            alpha=options.alpha,
            page=options.page,
            skip=options.on_error == "skip",
            folder=os.fspath(Path.cwd()),
        )

    def record(self) -> dict[str, object]:
        """Return what shaped the pixels, as `Raw.decode` has it."""
        found: dict[str, object] = {"orientation": RECORDED["orientation"][self.orientation]}
        found["alpha"] = RECORDED["alpha"][self.alpha]
        if self.size:
            found |= {"size": list(self.size), "fit": "stretch", "filter": "bilinear"}
        if self.color:
            found["color"] = self.color
        if self.page:
            found["page"] = self.page
        return found

    def with_reference(self, paths: Sequence[str]) -> "ImageDecoder":
        """Return a decoder that requires the format of the first readable image."""
        first: list[Problem] = []
        with strict_pillow():
            for path in paths:
                pixels, problems = self.examine(path)
                if pixels is not None:
                    return replace(self, format=format_of(pixels), reference=path)
                first = first or problems
        reasons = [replace(problem, option="") for problem in first]  # no option helps
        error = ImageError.of(paths[0], reasons)
        none = f"none of the {len(paths):,} images could be read: {error.message}"
        raise SourceError(none, None if error.is_damage else error.hint)

    def read(self, path: str) -> AnyArray:
        """Return the pixels of an image, uint8 or uint16 (H, W, C). Call within `strict_pillow`.

        One that cannot be used as it is, damaged or not, is an `ImageError`; a file that cannot be
        read for other reasons is a `SourceError`.
        """
        pixels, problems = self.examine(path)
        if problems or pixels is None:
            raise ImageError.of(path, problems)
        return pixels

    def examine(self, path: str) -> tuple[AnyArray | None, list[Problem]]:
        """Return the pixels of an image as far as they can be had, and all problems of it."""
        try:
            file_path = os.path.join(self.folder, path)  # noqa: PTH118 - thousands of them
            with open(file_path, "rb", buffering=0) as file:  # noqa: PTH123 - likewise
                content = file.read()  # one read, where Pillow makes many
        except OSError as error:  # which says nothing of the image
            raise SourceError(f"{path}: cannot read: {error.strerror}") from error
        return self.examine_bytes(path, content)

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
            return None, [*problems, Problem(DAMAGE, reason, "`on_error=skip`")]
        return pixels, problems + self.differences(format_of(pixels))

    def _decode(self, content: bytes, problems: list[Problem]) -> AnyArray:
        """Decode a file; add to `problems`, or raise one that ends it."""
        from PIL import Image, UnidentifiedImageError

        tags = tiff.read_tags(content)  # none of other formats
        image_damage.check_whole(content, tags)
        if tags and not tiff.is_read_rightly(tags):
            raise _ProblemError(Problem("type", f"a {tiff.name(tags)}, which is not read"))
        try:
            opened = Image.open(BytesIO(content), formats=IMAGE_FORMATS)
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise _ProblemError(Problem("pixels", str(error))) from None
        except UnidentifiedImageError:
            if found := tiff.name(tags) if tags else _other_format(content):
                raise _ProblemError(Problem("type", f"a {found}, which is not read")) from None
            raise ValueError("not an image") from None
        with opened as image:
            if math.prod(image.size) > MAX_PIXELS:
                size = f"{image.width:,}×{image.height:,}"
                more = f"{size} pixels: expected at most {MAX_PIXELS:,}"
                raise _ProblemError(Problem("pixels", more))
            pages = max(getattr(image, "n_frames", 1), tiff.imagej_pages(tags))
            if pages > 1 and self.page is None:
                held = f"has {pages} pages or frames, of which an image is one"
                problems.append(Problem("pages", held, "`page=first`"))
            return self._pixels(image, problems)

    def _pixels(self, image: "PillowImage", problems: list[Problem]) -> AnyArray:
        from PIL import Image

        deep, raw_mode = image.mode in GREY_16, _raw_mode(image)
        if image.mode in ("I", "F") or (not deep and RAW_16.search(raw_mode)):
            lost = "more than 8 bits a colour, or 16 of grey, would be lost"
            raise _ProblemError(Problem("type", lost))
        image = image_pixels.load(image, self.orientation == "follow")
        alpha = image_pixels.alpha_of(image, raw_mode)
        if alpha is not None and self.alpha is None:
            found = f"has transparency, alpha {alpha.min()} to {alpha.max()}"
            problems.append(Problem("transparency", found, "`alpha=white|black|drop|keep`"))
        if deep:
            return self._deep_pixels(np.asarray(image).astype(np.uint16), alpha)
        plain = _converted(image, "grey" if image.mode in GREY else "rgb")
        if alpha is not None and self.alpha in image_pixels.BACKGROUNDS:
            background = image_pixels.BACKGROUNDS[self.alpha]
            laid = image_pixels.on_background(np.asarray(plain), alpha, background)
            plain = Image.fromarray(laid)
        if self.color:
            plain = _converted(plain, self.color)
        if self.alpha == "keep":
            plain.putalpha(255 if alpha is None else Image.fromarray(alpha))
        pixels = np.asarray(self._resized(plain))
        return pixels if pixels.ndim == 3 else pixels[:, :, None]

    def _deep_pixels(self, pixels: AnyArray, alpha: AnyArray | None) -> AnyArray:
        """Finish 16-bit grey ones, (H, W), of which Pillow knows little."""
        from PIL import Image

        if self.alpha == "keep":
            raise _ProblemError(Problem("type", "16-bit grey, whose alpha is not kept"))
        if alpha is not None and self.alpha in image_pixels.BACKGROUNDS:
            background = image_pixels.BACKGROUNDS[self.alpha] * 257
            pixels = np.where(alpha == 0, np.uint16(background), pixels)
        # Pillow resizes only one byte order of it correctly.
        resized = np.asarray(self._resized(Image.fromarray(pixels)))
        return np.repeat(resized[:, :, None], COLORS[self.color or "grey"], axis=2)

    def _resized(self, image: "PillowImage") -> "PillowImage":
        from PIL import Image

        if self.size is None:
            return image
        height, width = self.size
        return image.resize((width, height), Image.Resampling.BILINEAR)

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


def _converted(image: "PillowImage", color: str) -> "PillowImage":
    mode = "L" if color == "grey" else "RGB"
    return image if image.mode == mode else image.convert(mode)


def format_of(pixels: AnyArray) -> ImageFormat:
    """Return the format of an image's pixels (H, W, C)."""
    height, width, channels = pixels.shape
    return ImageFormat((height, width, channels), pixels.dtype.name)


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
    return None


@contextmanager
def strict_pillow() -> Iterator[None]:
    """Turn Pillow's warnings of decompression bombs into errors; silence its others."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def require(purpose: str = "a folder of images") -> None:
    """Raise `MissingExtraError` if Pillow is not installed."""
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise missing_extra("Pillow", "images", purpose) from error
