"""Know a split by the words that people have for it."""

SPLIT_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval"),
}
SPLITS_BY_WORD = {word: split for split, words in SPLIT_WORDS.items() for word in words}


def split_of(word: str) -> str | None:
    """Return the split that a word names, whatever its case; None if it names none."""
    return SPLITS_BY_WORD.get(word.lower())
