"""Look at every image of a folder, so that all that is wrong is told at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pixelprep.errors import SourceError
from pixelprep.sources.base import SourceContext
from pixelprep.sources.pictures.image_file import (
    ImageDecoder,
    ImageFormat,
    format_of,
    strict_pillow,
)
from pixelprep.sources.pictures.image_problems import UNREAD, ImageError, Problem, hint_of
from pixelprep.system import parallel, progress


@dataclass(slots=True)
class Findings:
    """What images are: of each kind of problem, and of each format, the first path, how many."""

    kinds: dict[str, tuple[Problem, str, int]] = field(default_factory=dict)
    formats: dict[ImageFormat, tuple[str, int]] = field(default_factory=dict)

    def note(self, problem: Problem, path: str, count: int = 1) -> None:
        first, where, before = self.kinds.get(problem.kind, (problem, path, 0))
        self.kinds[problem.kind] = first, where, before + count

    def note_format(self, found: ImageFormat, path: str, count: int = 1) -> None:
        where, before = self.formats.get(found, (path, 0))
        self.formats[found] = where, before + count

    def add(self, other: "Findings") -> None:
        for problem, path, count in other.kinds.values():
            self.note(problem, path, count)
        for found, (path, count) in other.formats.items():
            self.note_format(found, path, count)

    def problems(self, decoder: ImageDecoder) -> list[tuple[Problem, str, int]]:
        """Return those of each kind, among them that formats are unlike the commonest."""
        if self.formats:
            usual = max(self.formats, key=lambda one: self.formats[one][1])
            decoder = replace(decoder, format=usual, reference=self.formats[usual][0])
        for found, (path, count) in self.formats.items():
            for problem in decoder.differences(found):
                self.note(problem, path, count)
        return list(self.kinds.values())


def _survey(task: tuple[Sequence[str], ImageDecoder]) -> Findings:
    """Look at some images."""
    paths, decoder = task
    seen = Findings()
    with strict_pillow():
        for path in paths:
            parallel.check_wanted()
            pixels, problems = decoder.examine(path)
            if pixels is not None:
                seen.note_format(format_of(pixels), path)
            if decoder.skip and any(problem.kind in UNREAD for problem in problems):
                continue
            for problem in problems:
                seen.note(problem, path)
    return seen


def all_problems(
    paths: Sequence[str], decoder: ImageDecoder, context: SourceContext, command: str
) -> SourceError | None:
    """Look at every image, so that the user is told of all that is wrong at once."""
    seen, step = Findings(), 64
    alone = replace(decoder, format=None)  # what most images are is known at the end
    tasks = ((paths[start : start + step], alone) for start in range(0, len(paths), step))
    with progress.bar("looking for more such", len(paths), " images", context.quiet) as bar:
        for i, some in enumerate(context.pool.map(_survey, tasks)):
            seen.add(some)
            bar.update(min(step, len(paths) - i * step))
    found = seen.problems(decoder)
    if not found:
        return None  # the file is another meanwhile
    problems = [problem for problem, *_ in found]
    if len(found) == 1 and found[0][2] == 1:
        return ImageError.of(found[0][1], problems)
    told = dict[str, list[str]]()  # one line may be of several kinds: another size, and colour
    for problem, path, count in found:
        of_kind = f"{count:,} of {len(paths):,} images"
        told.setdefault(f"{path}: {problem.reason}", []).append(f"{problem.kind}: {of_kind}")
    lines = (
        f"{line} ({'; '.join(counts) if len(counts) > 1 else counts[0].partition(': ')[2]})"
        for line, counts in told.items()
    )
    return SourceError("; ".join(lines), hint_of(problems, command))
