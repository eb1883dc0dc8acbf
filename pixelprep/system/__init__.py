"""Work with the machine: files, locks, processes, progress bars."""
