"""The architectures that a backbone can have. To add one, register it here; nothing else names them.

No torch: settings and help texts take the names from here.
"""

from dataclasses import dataclass
from typing import Literal

from taxonomist.taxonomy.errors import ConfigError

Colour = tuple[float, float, float]
"""Red, green and blue in 0..1."""

IMAGENET: tuple[Colour, Colour] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_HALF: tuple[Colour, Colour] = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Architecture:
    """A classification network of torchvision or timm, of which all but the classifier becomes a backbone.

    `network` is its name in the `library`. `dimension` is the length of an embedding; `mean` and `std` are those of the
    colours that its ImageNet weights expect. The other fields are paths of submodules, with dots: the network runs
    through the `stem`, the residual blocks that the `stages` contain, and the `end`, one after the other, and flattens
    the result. The `classifier` is removed. Fine-tuning trains the last blocks only. A network of timm that is not
    registered has no parts; with `fixed_size` it takes images of one side only.
    """

    name: str
    dimension: int
    stem: tuple[str, ...]
    stages: tuple[str, ...]
    end: tuple[str, ...]
    classifier: str
    library: Literal["torchvision", "timm"] = "torchvision"
    network: str = ""
    mean: Colour = IMAGENET[0]
    std: Colour = IMAGENET[1]
    fixed_size: bool = False


TIMM = "timm:"
"""Before the name of any network of timm, as in "timm:convnext_atto.d2_in1k"."""

_REGISTERED: dict[str, Architecture] = {}


def register(architecture: Architecture) -> None:
    """Make an architecture available by its name. Raises ValueError when the name is taken."""
    if architecture.name in _REGISTERED:
        raise ValueError(f'The architecture "{architecture.name}" is registered already.')
    _REGISTERED[architecture.name] = architecture


def architecture_names() -> tuple[str, ...]:
    """Return the names of all architectures, in the order in which they were registered."""
    return tuple(_REGISTERED)


def list_of_names() -> str:
    """Return the names of all architectures for a sentence: "resnet18, resnet34 or resnet50"."""
    *names, last = architecture_names()
    return f"{', '.join(names)} or {last}" if names else last


def registered_for(library: str, network: str) -> Architecture | None:
    """Return the registered architecture of a library's network, None when there is none."""
    known = _REGISTERED.values()
    return next((found for found in known if (found.library, found.network) == (library, network)), None)


def get_architecture(name: str) -> Architecture:
    """Return the architecture of that name, which may be `timm:` and the name of any network of timm.

    Raises ConfigError, which lists the names, when there is none.
    """
    if name.startswith(TIMM):
        from taxonomist.training.backbones.timm_networks import timm_architecture  # noqa: PLC0415 - the extra train

        return timm_architecture(name.removeprefix(TIMM))
    if name not in _REGISTERED:
        raise ConfigError(f'The backbone "{name}" is not known.', hint=f"Choose {list_of_names()}, or {TIMM}NAME.")
    return _REGISTERED[name]


def _resnet(name: str, dimension: int) -> Architecture:
    """Return a ResNet (He et al. 2016, https://arxiv.org/abs/1512.03385)."""
    return Architecture(
        name,
        dimension,
        stem=("conv1", "bn1", "relu", "maxpool"),
        stages=("layer1", "layer2", "layer3", "layer4"),
        end=("avgpool",),
        classifier="fc",
        network=name,
    )


def _efficientnet_lite(number: int) -> Architecture:
    """Return an EfficientNet without squeeze and excitation, for small devices (Tan and Le 2019,
    https://arxiv.org/abs/1905.11946).
    """
    return Architecture(
        f"efficientnet_lite{number}",
        1280,
        stem=("conv_stem", "bn1"),
        stages=tuple(f"blocks.{stage}" for stage in range(7)),
        end=("conv_head", "bn2", "global_pool"),
        classifier="classifier",
        library="timm",
        network=f"tf_efficientnet_lite{number}",
        mean=_HALF[0],
        std=_HALF[1],
    )


register(_resnet("resnet18", 512))
register(_resnet("resnet34", 512))
register(_resnet("resnet50", 2048))
register(_efficientnet_lite(0))
register(_efficientnet_lite(2))
