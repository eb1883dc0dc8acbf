"""Read files that hold arrays: which of them are images and labels, and their values."""
