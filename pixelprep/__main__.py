"""``python -m pixelprep``, and the console script."""

import gc
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line, which is loaded without a search for garbage: loading makes none."""
    gc.disable()  # `pixelprep.cli.main` enables it before it does anything
    from pixelprep.cli.main import main

    main()


if __name__ == "__main__":
    main()
