"""The constants of pretrained models, by name, each with its source. Loads no NumPy."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """What pixels are scaled by: one number, or one of each channel in the order stored."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    units: str  # "max": of values over the type's maximum; "pixel": of pixels as they are
    channel_order: str | None = None


# torchvision.transforms.Normalize as of its ImageNet weights; timm.data.constants,
# IMAGENET_DEFAULT_MEAN and IMAGENET_DEFAULT_STD.
IMAGENET = Preset((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "max")

PRESETS = {
    "imagenet": IMAGENET,
    # keras.applications.imagenet_utils, `_preprocess_numpy_input`: mode "tf", x / 127.5 − 1;
    "keras-tf": Preset((127.5,), (127.5,), "pixel"),
    # mode "torch";
    "keras-torch": IMAGENET,
    # mode "caffe": BGR, means of ImageNet, no division.
    "keras-caffe": Preset((103.939, 116.779, 123.68), (1.0,), "pixel", "bgr"),
    # github.com/openai/CLIP, clip/clip.py, `_transform`; open_clip's OPENAI_DATASET_MEAN and _STD.
    "clip": Preset(
        (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), "max"
    ),
    # 0 to 255 as floats: EfficientNet, ConvNeXt and MobileNetV3 of Keras scale inside the model.
    "raw": Preset((0.0,), (1.0,), "pixel"),
}


def of_channels(numbers: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return one number for each channel."""
    return numbers * channels if len(numbers) == 1 else numbers


def preset_name(
    mean: tuple[float, ...], std: tuple[float, ...], units: str, channel_order: str | None
) -> str | None:
    """Return the first preset that has these constants, if there is one."""
    count = max(len(mean), len(std))
    given = of_channels(mean, count), of_channels(std, count), units, channel_order
    for name, one in PRESETS.items():
        own = of_channels(one.mean, count), of_channels(one.std, count)
        if (*own, one.units, one.channel_order) == given:
            return name
    return None
