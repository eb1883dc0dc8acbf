"""Say why image files cannot be used as they are, and which options help."""

from collections.abc import Sequence
from dataclasses import dataclass

from pixelprep.errors import SourceError
from pixelprep.installation import install_command


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


class ProblemError(Exception):
    """Decoding ends here."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem
