"""In which form a feed hands images and labels to a framework."""

from dataclasses import dataclass
from typing import Any, Literal, Self  # Any: columns and options of whichever type

import numpy as np

from pixelprep.dataset.columns import Column, Columns
from pixelprep.dataset.epoch import BatchOptions
from pixelprep.errors import UsageError, unknown_choice

LAYOUTS = ("nhwc", "nchw")
LABELS = ("int", "onehot", "multihot")


class FeedOptions(BatchOptions, total=False):
    """The keywords that all framework feeds share, beside those of `BatchOptions`.

    Parameters
    ----------
    layout : {"nhwc", "nchw"}
        The order of an image's axes, default as stored: (n, H, W, C), which TensorFlow and JAX
        convolve fastest; or (n, C, H, W), which PyTorch expects: a view of the same memory there,
        whose memory format is `channels_last`.
    labels : {"int", "onehot", "multihot"}, optional
        Default: as stored. Of one class a row ``int`` is that, int64 (n,), as PyTorch's
        CrossEntropyLoss and Keras's SparseCategoricalCrossentropy want it, and ``onehot`` float32
        (n, K); of several a row ``multihot`` is float32 (n, K) of the stored uint8, as
        BCEWithLogitsLoss and BinaryCrossentropy want it.
    """

    layout: Literal["nhwc", "nchw"]
    labels: Literal["int", "onehot", "multihot"] | None


@dataclass(frozen=True, slots=True)
class Form:
    """The form of what is handed out: views of what is read, where that is enough."""

    layout: str
    labels: str | None
    classes: int

    @classmethod
    def taken_from(cls, options: dict[str, Any], columns: Columns, classes: int) -> Self:
        """Take the options of the form out of a feed's; what is left are a batch's."""
        layout, labels = options.pop("layout", "nhwc"), options.pop("labels", None)
        if layout not in LAYOUTS:
            raise unknown_choice("layout", str(layout), LAYOUTS)
        if labels is not None and labels not in LABELS:
            raise unknown_choice("labels", str(labels), LABELS)
        several = bool(columns.stored["labels"][0])
        if labels is not None and several != (labels == "multihot"):
            got, fitting = ("several", "multihot") if several else ("one", "onehot")
            message = f"`labels={labels}`: expected {'one class' if several else 'several classes'}"
            raise UsageError(f"{message} a row, found {got}", f"labels={fitting!r}")
        return cls(layout, labels, classes)

    def image_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of an image, (H, W, C), in this form."""
        return (shape[2], *shape[:2]) if self.layout == "nchw" else shape

    def label_kind(self, shape: tuple[int, ...], dtype: Any) -> tuple[tuple[int, ...], Any]:
        """Return shape and type of a label that is stored so, in this form."""
        if self.labels in (None, "int"):
            return shape, dtype
        return (self.classes,), np.dtype(np.float32)

    def __call__(self, images: Column, labels: Column) -> tuple[Column, Column]:
        """Return images (n, H, W, C) and labels, as they are stored, in this form."""
        if self.layout == "nchw":
            images = images.transpose(0, 3, 1, 2)
        if self.labels == "onehot":
            hot = np.zeros((len(labels), self.classes), np.float32)
            hot[np.arange(len(labels)), labels] = 1
            labels = hot
        elif self.labels == "multihot":
            labels = labels.astype(np.float32)
        return images, labels


AS_STORED = Form("nhwc", None, 0)
