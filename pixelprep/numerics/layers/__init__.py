"""The scaling as a layer of a framework: one module each, and their formula in `formula`."""

from importlib import import_module
from typing import Any  # a layer of whichever framework

from numpy.typing import DTypeLike

from pixelprep.errors import missing_extra, unknown_choice
from pixelprep.numerics.scaling import Scaling

FRAMEWORKS = {"keras": ("Keras", "train"), "torch": ("PyTorch", "torch"), "jax": ("JAX", "jax")}


def layer_of(scaling: Scaling, framework: str, dtype: DTypeLike) -> Any:
    """Return a scaling as a layer of a framework, which is imported only now."""
    if framework not in FRAMEWORKS:
        raise unknown_choice("framework", framework, FRAMEWORKS)
    name, extra = FRAMEWORKS[framework]
    try:
        module = import_module(f"{__name__}.{framework}_layer")
    except ImportError as error:
        raise missing_extra(name, extra, "this layer") from error
    return module.layer(scaling, dtype)
