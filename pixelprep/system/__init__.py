"""The machine below: files, locks, processes, progress bars."""
