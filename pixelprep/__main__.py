"""``python -m pixelprep``."""

from pixelprep.cli.app import main

main()
