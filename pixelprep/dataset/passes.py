"""Number the passes over a feed, which several processes may make together."""

import json
import os
import shutil
import tempfile
import uuid
import weakref
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any  # JSON values

State = Mapping[str, Any]


class PassLog:
    """The passes, as they began, on which all processes that make them agree.

    They are files in a folder, numbered from 0: whoever comes first adds the next one, at once and
    whole, so that no worker's timing matters. Each pass is the next epoch, unless a file before it
    says from where to go on.
    """

    def __init__(self, epoch: int, folder: Path | None = None) -> None:
        self.first, self.folder = epoch, folder or Path(tempfile.mkdtemp(prefix="pixelprep-"))
        self.begun = Counter[str]()
        # As far as this process has read: the next file; and of the next pass, what is known of it.
        self.next, self.epoch, self.state = 0, epoch, None
        if folder is None:  # a copy in another process does not remove it
            weakref.finalize(self, _remove, self.folder, os.getpid())

    def __reduce__(self) -> tuple[type["PassLog"], tuple[int, Path]]:
        return PassLog, (self.first, self.folder)

    def begin(self, workers: str, epoch: int | None = None) -> tuple[int, State | None]:
        """Return the epoch of these workers' next pass, and the state from which it goes on.

        They may know the epoch from a state of their own.
        """
        name = f"{workers}-{self.begun[workers]}"
        self.begun[workers] += 1
        return self._add(name, True, epoch, None)

    def go_on(self, epoch: int, state: State | None = None) -> None:
        """Let the next pass be of this epoch, and begin where this state of it stands."""
        self._add(uuid.uuid4().hex, False, epoch, state)

    def is_empty(self) -> bool:
        """Return whether no process has begun a pass."""
        return not (self.folder / "0").exists()

    def _add(
        self, name: str, begins: bool, epoch: int | None, state: State | None
    ) -> tuple[int, State | None]:
        for number in count(self.next):
            expected, stands = self.epoch if epoch is None else epoch, self.state
            mine = {"name": name, "begins": begins, "epoch": expected, "state": state}
            event = self._at(number, mine)
            self.next, self.state = number + 1, event["state"]
            self.epoch = event["epoch"] + event["begins"]
            if event["name"] == name:
                return event["epoch"], stands
        raise AssertionError

    def _at(self, number: int, event: dict[str, Any]) -> dict[str, Any]:
        """Return what the file of this number says: this, if there is none yet."""
        path = self.folder / str(number)
        if not path.exists():
            self.folder.mkdir(exist_ok=True)  # temporary files may be swept
            written = self.folder / uuid.uuid4().hex
            written.write_text(json.dumps(event))
            with suppress(FileExistsError):
                os.link(written, path)
            written.unlink()
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not a fork of it
        shutil.rmtree(folder, ignore_errors=True)
