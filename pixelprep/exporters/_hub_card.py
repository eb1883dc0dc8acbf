"""Write the card of a dataset on the Hugging Face hub, from what an entry knows of itself."""

from collections.abc import Mapping
from typing import Any  # Any: values of YAML

from pixelprep.dataset.entry import Entry
from pixelprep.system import formatting

MARK = "<!-- written by pixelprep: the next push replaces it -->"
SPLITS = {"val": "validation"}  # as the hub calls it
# The hub's names of licences that the registry has; any other is "other", and named in the text.
LICENCES = {
    "CC0": "cc0-1.0",
    "CC0 1.0": "cc0-1.0",
    "CC BY 4.0": "cc-by-4.0",
    "CC BY-NC 4.0": "cc-by-nc-4.0",
    "CC BY-SA 3.0": "cc-by-sa-3.0",
    "CC BY-SA 4.0": "cc-by-sa-4.0",
    "MIT": "mit",
    "not stated": "unknown",
}


def card(entry: Entry, repository: str, sizes: Mapping[str, int]) -> str:
    """Return the README.md of a dataset: its header for the hub, and its text.

    `sizes` are the bytes of each split's files.
    """
    from huggingface_hub import DatasetCardData

    header = DatasetCardData(**_metadata(entry, sizes)).to_yaml()
    return f"---\n{header}\n---\n\n{MARK}\n\n{_text(entry, repository)}"


def _metadata(entry: Entry, sizes: Mapping[str, int]) -> dict[str, Any]:
    """Return what programs read, by the hub's names."""
    about, several = entry.manifest.provenance, entry.manifest.source.task == "multilabel"
    named = LICENCES.get(about.licence, "other")
    classes = {"class_label": {"names": {str(i): n for i, n in enumerate(entry.class_names)}}}
    label = {"name": "labels", "list": classes} if several else {"name": "label", "dtype": classes}
    data = [{"split": SPLITS.get(name, name), "path": f"data/{name}-*"} for name in entry.splits]
    splits = [
        {"name": SPLITS.get(name, name), "num_bytes": sizes[name], "num_examples": len(split)}
        for name, split in entry.splits.items()
    ]
    total = sum(sizes.values())
    return {
        "pretty_name": about.title,
        "license": named,
        **({"license_name": about.licence} if named == "other" else {}),
        "task_categories": ["image-classification"],
        **({"task_ids": ["multi-label-image-classification"]} if several else {}),
        "size_categories": [_size_category(entry.rows)],
        "tags": ["pixelprep"],
        "configs": [{"config_name": "default", "data_files": data}],
        "dataset_info": {
            "features": [{"name": "image", "dtype": "image"}, label],
            "splits": splits,
            "download_size": total,
            "dataset_size": total,
        },
    }


def _size_category(rows: int) -> str:
    """Return the hub's word for a number of rows."""
    if rows < 1000:
        return "n<1K"
    units = ["1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T"]
    place = min(len(str(rows)) - 4, len(units) - 2)
    return f"{units[place]}<n<{units[place + 1]}"


def _text(entry: Entry, repository: str) -> str:
    """Return what people read."""
    manifest, about = entry.manifest, entry.manifest.provenance
    shape = formatting.format_shape(next(iter(entry.splits.values())).shape[1:])
    rows = [
        f"| {SPLITS.get(name, name)} | {len(split):,} | {manifest.splits[name].raw.minimum}"
        f" | {manifest.splits[name].raw.maximum} |"
        for name, split in entry.splits.items()
    ]
    source = [f"- Licence: {about.licence}"]
    source += [f"- Home: {about.homepage}"] if about.homepage else []
    source += [f"- Citation: {about.citation}"] if about.citation else []
    parts = [
        f"# {about.title}",
        f"{entry.rows:,} images of {shape} {manifest.scaling.raw_dtype}, raw pixels as PNG, of"
        f" {formatting.pluralize(len(entry.class_names), 'class', 'classes')}:"
        f" {formatting.shorten(entry.class_names, 20)}.",
        "\n".join(["| split | images | minimum | maximum |", "|---|---|---|---|", *rows]),
        *_statistics(entry),
        "## Use",
        f'```python\nfrom datasets import load_dataset\n\ndataset = load_dataset("{repository}")'
        "\n```",
        f"```\npixelprep prepare hf://datasets/{repository} --mode {manifest.mode}\n```",
        "## Source",
        "\n".join(source),
        f"SHA-256 of the raw data, as pixelprep takes it: `{manifest.source.digest}`.",
    ]
    return "\n\n".join(parts) + "\n"


def _statistics(entry: Entry) -> list[str]:
    """Return the mean and deviation of train, of pixels as they are and over their maximum."""
    scaling = entry.manifest.scaling
    mean, std = scaling.mean, scaling.std
    integer = scaling.raw_dtype.startswith(("uint", "int"))
    if entry.manifest.per not in ("channel", "dataset") or not (mean and std and integer):
        return []
    import numpy as np

    most = int(np.iinfo(scaling.raw_dtype).max)
    lines = ["| of train | mean | std |", "|---|---|---|"]
    for name, unit in (("pixels", 1), (f"pixels / {most:,}", most)):
        cells = [
            ", ".join(f"{one * scaling.unit / unit:.10g}" for one in formatting.flatten(values))
            for values in (mean, std)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return ["## Statistics", "\n".join(lines)]
