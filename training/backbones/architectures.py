"""The architectures that a backbone can have. To add one, register it here; nothing else names them.

No torch: settings and help texts take the names from here.
"""

from dataclasses import dataclass

from taxonomist.taxonomy.errors import ConfigError


@dataclass(frozen=True)
class Architecture:
    """A classification network of torchvision, of which all but the classifier becomes a backbone.

    `name` is that of `torchvision.models.get_model`; torchvision also knows its ImageNet weights. `dimension` is the
    length of an embedding. The other fields are paths of submodules, with dots: the `classifier` is removed; the
    network runs through the `stem`, the residual blocks that the `stages` contain, and the `pooling`, one after the
    other, and flattens the result. Fine-tuning trains the last blocks only.
    """

    name: str
    dimension: int
    stem: tuple[str, ...]
    stages: tuple[str, ...]
    pooling: str
    classifier: str


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


def get_architecture(name: str) -> Architecture:
    """Return the architecture of that name. Raises ConfigError, which lists all names, when there is none."""
    if name not in _REGISTERED:
        raise ConfigError(f'The backbone "{name}" is not known.', hint=f"Choose {list_of_names()}.")
    return _REGISTERED[name]


def _resnet(name: str, dimension: int) -> Architecture:
    """Return a ResNet (He et al. 2016, https://arxiv.org/abs/1512.03385)."""
    return Architecture(
        name,
        dimension,
        stem=("conv1", "bn1", "relu", "maxpool"),
        stages=("layer1", "layer2", "layer3", "layer4"),
        pooling="avgpool",
        classifier="fc",
    )


register(_resnet("resnet18", 512))
register(_resnet("resnet34", 512))
register(_resnet("resnet50", 2048))
