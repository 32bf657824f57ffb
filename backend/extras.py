"""The optional extras of the installation: which there are, whether one is installed, and the error when it is not.

The plain install runs the server and the worker. pyproject.toml lists the packages of each extra; here is what is
imported of them. Modules that import these packages are themselves imported inside the function that needs them, after
`require`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Literal

from taxonomist.taxonomy.errors import ConfigError

Extra = Literal["train", "azure", "azureml"]

DISTRIBUTION = "label-studio-taxonomist"
_TRAIN = "torch torchvision lightly sklearn matplotlib onnx onnxscript tensorboardX timm"
_AZURE = "aiohttp azure.cosmos azure.identity azure.storage.blob"
MODULES: dict[Extra, tuple[str, ...]] = {
    "train": tuple(_TRAIN.split()),
    "azure": tuple(_AZURE.split()),
    "azureml": (*_AZURE.split(), "azure.ai.ml"),
}
_NEEDS: dict[Extra, str] = {
    "train": "Training needs the extra `train`",
    "azure": "Azure needs the extra `azure`",
    "azureml": "Jobs of Azure ML need the extra `azureml`",
}


def is_installed(extra: Extra) -> bool:
    """Return whether all packages of the extra are installed. Imports none of them."""
    return not _missing(extra)


def require(extra: Extra) -> None:
    """Raise `ConfigError`, which says how to install the extra, where one of its packages is missing."""
    if missing := _missing(extra):
        raise ConfigError(f"{_NEEDS[extra]}: {missing} is not installed.", hint=install_hint(extra))


def require_for_head(kind: str) -> None:
    """Raise `ConfigError` where a head of that kind cannot be trained; "lda" needs no extra."""
    if kind != "lda" and (missing := _missing("train")):
        raise ConfigError(
            f"TAXONOMIST_HEAD={kind} needs the extra `train` to train: {missing} is not installed.",
            hint=f"{install_hint('train')}; or set TAXONOMIST_HEAD=lda, which needs no extra.",
        )


def install_hint(extra: Extra) -> str:
    """Return the command that installs the extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def _missing(extra: Extra) -> str | None:
    """Return the first package of the extra that cannot be found."""
    return next((module for module in MODULES[extra] if not _is_found(module)), None)


def _is_found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # its parent is missing
        return False
