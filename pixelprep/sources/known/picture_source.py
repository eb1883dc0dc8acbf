"""Read a registered archive of pictures, with the options of a user's own."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from pixelprep.errors import SourceError
from pixelprep.sources.base import Raw, SourceContext
from pixelprep.sources.known.picture_sets import PictureArchive
from pixelprep.sources.known.registered import RegisteredSource, find_pinned
from pixelprep.sources.pictures.image_folder import ImageArchive
from pixelprep.sources.pictures.layouts import Layout
from pixelprep.sources.pictures.members import Archive, Listing


@dataclass(frozen=True)
class Listed(ImageArchive):
    """An archive of pictures of which others tell the splits and the classes."""

    listed: Layout

    def _layout(self, listing: Listing, archive: Archive | None) -> Layout:
        """Return what is listed; refuse it where the archive lacks a picture."""
        there = set(listing.names)
        for name, split in self.listed.splits.items():
            if lacking := [one for one in split.names if one not in there]:
                of = f"{name}: lacks {len(lacking):,} pictures, such as {lacking[0]}"
                raise SourceError(f"{self.path}: {of}")
        return self.listed


class PictureSource(RegisteredSource):
    """Pictures in folders by class: of whatever sizes, which options make equal."""

    supported_options: ClassVar[frozenset[str]] = frozenset(
        {"size", "color", "on_error", "orientation", "alpha", "page", "fit", "filter", "jpeg"}
    )

    def _read(self, folder: Path, context: SourceContext) -> Raw:
        """Decode the pictures, the workers sharing the work."""
        known = self.dataset
        assert isinstance(known, PictureArchive)
        path = find_pinned(folder, known.archive)
        # Classes are chosen later, by the names that they have then.
        options = replace(self.options, classes=None, class_map=None)
        layout = known.layout(folder)
        archive = ImageArchive(path, options) if layout is None else Listed(path, options, layout)
        raw = archive.load(context, known.name)
        expected = known.folders or known.class_names or raw.class_names
        if raw.class_names != expected or len(expected) != known.classes:
            wrong = f"expected {known.classes} folders of classes, got {', '.join(raw.class_names)}"
            raise SourceError(f"{path}: {wrong}")
        return replace(raw, class_names=known.class_names or raw.class_names)
