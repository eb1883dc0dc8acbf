"""``python -m pixelprep``."""

from pixelprep.cli.main import main

main()
