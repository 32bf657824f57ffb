"""Any network of timm by its name: what timm says of it, and its weights from timm's hub or from a file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import cast

import httpx
import timm
import torch
from rapidfuzz import process
from timm.models import PretrainedCfg
from torch import nn

from taxonomist.taxonomy.errors import ConfigError, TrainingError
from taxonomist.training.backbones.architectures import TIMM, Architecture, registered_for
from taxonomist.training.backbones.weights import load_weights, read_weights, unused_arrays

MAX_BYTES = 512 * 2**20  # of a network in single precision
_MAX_FILE_BYTES = 2 * MAX_BYTES  # with its classifier
_SIMILAR = 4


def describe_network(name: str) -> PretrainedCfg:
    """Return what timm says of a network and its weights, "resnet18" or "resnet18.a1_in1k". Loads and fetches nothing.

    Raises ConfigError, which lists similar names, when timm does not know it, and when it takes no colour images.
    """
    known = timm.is_model_pretrained(name) if "." in name else timm.is_model(name)
    if not known or ":" in name or "/" in name:  # names with these are addresses of other hubs
        names = list(dict.fromkeys([*timm.list_models(), *timm.list_pretrained()]))
        similar = process.extract(name, names, limit=_SIMILAR, score_cutoff=50)
        hint = f"Similar names: {', '.join(found for found, *_ in similar)}." if similar else "See timm.list_models()."
        raise ConfigError(f'timm {timm.__version__} has no network "{name}".', hint=hint)
    described = timm.get_pretrained_cfg(name) or PretrainedCfg()
    if described.input_size[0] != 3:
        raise ConfigError(f"{name} takes {described.input_size[0]} channels, not the three of a colour image.")
    return described


def timm_architecture(name: str) -> Architecture:
    """Return the architecture of a network of timm: a registered one, else one that knows no parts.

    Raises ConfigError when timm does not know it.
    """
    described = describe_network(name)
    mean, std = (_colour(described.mean), _colour(described.std))
    if (registered := registered_for("timm", name.partition(".")[0])) and (registered.mean, registered.std) == (
        mean,
        std,
    ):
        return registered
    with torch.device("meta"):  # no memory
        network = timm.create_model(name, pretrained=False, num_classes=0)
    size = 4 * sum(weights.numel() for weights in network.parameters())
    if size > MAX_BYTES:
        limit = MAX_BYTES // 2**20
        raise ConfigError(f"{name} has {size / 2**20:,.0f} MB, more than {limit}.", hint="Use a smaller network.")
    return Architecture(
        f"{TIMM}{name}",
        getattr(network, "head_hidden_size", None) or cast(int, network.num_features),
        stem=(),
        stages=(),
        end=(),
        classifier="",
        library="timm",
        network=name,
        mean=mean,
        std=std,
        fixed_size=described.fixed_input_size,
    )


def _colour(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = values
    return float(red), float(green), float(blue)


def load_timm_weights(encoder: nn.Module, name: str, path: Path, *, complete: bool) -> None:
    """Load a .safetensors file into a network of timm, whose names may be those of its authors.

    With `complete` the file has nothing else but a classifier. Raises TrainingError, and leaves the encoder as it was,
    when the file is of another kind or does not fit.
    """
    if path.suffix != ".safetensors":
        raise TrainingError(
            f"Weights are read from a .safetensors file, not from {path.name}: a pickle may run code.",
            hint="Convert it by safetensors.torch.save_file(state_dict, 'weights.safetensors').",
        )
    if path.is_file() and path.stat().st_size > _MAX_FILE_BYTES:
        raise TrainingError(f"{path.name} has more than {_MAX_FILE_BYTES // 2**20:,} MB.")
    state = read_weights(path)
    hint = f"Give the weights of {name}."
    if (convert := getattr(sys.modules[type(encoder).__module__], "checkpoint_filter_fn", None)) is not None:
        try:
            state = dict(convert(state, encoder))
        except (KeyError, RuntimeError, ValueError, AttributeError, TypeError) as error:
            raise TrainingError(f"{path.name} does not have the weights of {name}: {error}.", hint=hint) from error
    load_weights(encoder, state, hint=hint, dry_run=complete)
    if complete:
        classifiers = describe_network(name).classifier or ()
        unused = unused_arrays(encoder, state, (classifiers,) if isinstance(classifiers, str) else tuple(classifiers))
        if unused:
            raise TrainingError(
                f"The weights are of a larger network than {name}: {len(unused)} arrays have no place in it, "
                f'"{unused[0]}" for one.',
                hint=hint,
            )
        load_weights(encoder, state, hint=hint)


def download_weights(name: str) -> Path:
    """Return the file with timm's weights of a network, from the cache of huggingface_hub or from the hub into it.

    Only safetensors are fetched. Raises TrainingError when there are none, or the hub does not answer.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub import hf_hub_download  # noqa: PLC0415 - reads the environment

    described = describe_network(name)
    hint = "Give the weights as a file: --weights FILE.safetensors."
    if not described.hf_hub_id:
        raise TrainingError(f"timm's hub has no weights of {name}.", hint=hint)
    given = described.hf_hub_filename or ""
    file = "open_clip_model.safetensors" if given.startswith("open_clip") else "model.safetensors"
    try:
        endpoint = os.environ.get("HF_ENDPOINT")
        return Path(
            hf_hub_download(described.hf_hub_id, given if given.endswith(".safetensors") else file, endpoint=endpoint)
        )
    except (OSError, ValueError, RuntimeError, httpx.HTTPError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TrainingError(
            f"The weights of {name} could not be fetched from {described.hf_hub_id}: {reason}", hint=hint
        ) from error
