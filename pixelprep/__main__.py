"""``python -m pixelprep``."""

from pixelprep.cli import main

main()
