"""The command line of `scripts/fuzz`."""

import argparse
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from fuzzing.children import ACCEPTED, CONTAINED, FAILED, REFUSED, Outcome, failed, outcomes
from fuzzing.isolation import hasten
from fuzzing.targets import TARGETS, warm

IN_MEMORY = Path("/dev/shm")
KINDS = (ACCEPTED, REFUSED, CONTAINED, *FAILED)
KEPT = 3  # inputs that failed in the same way


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    about = "Throw damaged and malicious files at everything that reads files."
    made = argparse.ArgumentParser("scripts/fuzz", description=about)
    made.add_argument("--inputs", type=int, default=100_000, metavar="N", help="of all targets")
    made.add_argument("--target", default=",".join(TARGETS), metavar="NAME[,NAME]", help="these")
    made.add_argument("--seed", type=int, default=0, metavar="S", help="other inputs")
    made.add_argument("--first", type=int, default=0, metavar="N", help="number of the first input")
    made.add_argument("--keep", type=Path, metavar="DIR", help="where inputs that failed are kept")
    return made


class Tally:
    """What came of the inputs of one target.

    Parameters
    ----------
    name : str
        The target.
    seed : int
        Of its inputs.
    keep : Path or None
        Where inputs that failed are kept.
    work : Path
        Where they are tried.
    """

    def __init__(self, name: str, seed: int, keep: Path | None, work: Path) -> None:
        self.name, self.seed, self.keep, self.work = name, seed, keep, work
        self.whats: dict[str, Counter[str]] = defaultdict(Counter)  # by kind
        self.seconds, self.waited, self.peak, self.begun = 0.0, 0.0, 0, time.perf_counter()

    def note(self, outcome: Outcome) -> None:
        """Count one; a new kind of failure is shown at once."""
        self.whats[outcome.kind][outcome.what] += 1
        self.peak = max(self.peak, outcome.peak)
        if outcome.kind == CONTAINED:
            self.waited = max(self.waited, outcome.seconds)
        else:
            self.seconds = max(self.seconds, outcome.seconds)
        if outcome.kind in FAILED:
            self._fail(outcome)

    def _fail(self, outcome: Outcome) -> None:
        times = self.whats[outcome.kind][outcome.what]
        if times == 1:
            again = f"--target {self.name} --seed {self.seed} --first {outcome.number} --inputs 1"
            print(
                f"{outcome.kind}: {outcome.what}\n{outcome.detail}\nagain: scripts/fuzz {again}\n",
                file=sys.stderr,
                flush=True,
            )
        if self.keep is not None and times <= KEPT:
            folder = self.keep / f"{self.name}-{self.seed}-{outcome.number}"
            shutil.copytree(failed(self.work, outcome.number), folder, dirs_exist_ok=True)
            (folder / "what.txt").write_text(f"{outcome.what}\n{outcome.detail}")

    def lines(self) -> str:
        """Return one line about all of them, and one for each way in which processes died."""
        counts = {kind: self.whats[kind].total() for kind in KINDS}
        total, taken = sum(counts.values()), time.perf_counter() - self.begun
        classes = ", ".join(f"{name} {n:,}" for name, n in self.whats[REFUSED].most_common())
        line = (
            f"{self.name:<9} {total:,} inputs: {counts[ACCEPTED]:,} accepted,"
            f" {counts[REFUSED]:,} refused ({classes}), contained: {counts[CONTAINED]:,};"
            f" {', '.join(f'{counts[kind]:,} {kind}' for kind in FAILED)};"
            f" longest {self.seconds:.2f} s, contained {self.waited:.2f} s;"
            f" memory +{self.peak >> 20} MiB, {total / taken:.0f} a second"
        )
        deaths = [f"{count:>9,} {what}" for what, count in self.whats[CONTAINED].most_common()]
        return "\n".join([line, *deaths])


def run(names: Sequence[str], given: argparse.Namespace, work: Path) -> bool:
    """Throw the inputs and print the lines; whether nothing failed."""
    warm(names)
    hasten()
    good = True
    for place, name in enumerate(names):
        share = given.inputs // len(names) + (place < given.inputs % len(names))
        tally = Tally(name, given.seed, given.keep, work)
        for outcome in outcomes(name, given.seed, range(given.first, given.first + share), work):
            tally.note(outcome)
        print(tally.lines(), flush=True)
        good = good and not any(tally.whats[kind] for kind in FAILED)
    return good


def main() -> None:
    """Parse, throw, show."""
    given = parser().parse_args()
    names = given.target.split(",")
    if wrong := [name for name in names if name not in TARGETS]:
        parser().error(f"no target {', '.join(wrong)}: expected some of {', '.join(TARGETS)}")
    if given.inputs < 1 or given.first < 0:
        parser().error("--inputs: expected 1 or more; --first: 0 or more")
    place = IN_MEMORY if IN_MEMORY.is_dir() else None
    work = Path(tempfile.mkdtemp(prefix="pixelprep-fuzz-", dir=place))
    try:
        good = run(names, given, work / "child")
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
