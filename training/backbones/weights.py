"""Weights of an encoder: from a file into a module. Files are never unpickled freely."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from taxonomist.inference.starter import FOLDER, WEIGHTS_FILE
from taxonomist.taxonomy.errors import TrainingError

Weights = dict[str, Tensor]
_HINT = "Give a .safetensors file, or a .pth file that holds a state_dict."


def read_weights(path: Path) -> Weights:
    """Return the tensors by name of a .safetensors file, or of a .pth file (a `state_dict` inside it is unwrapped).

    A .pth is read by torch's restricted loader, which runs no code. Raises TrainingError when it cannot be read.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state) if isinstance(state, dict) else None
    except FileNotFoundError as error:
        raise TrainingError(f"The weights file {path} does not exist.", hint=_HINT) from error
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise TrainingError(f"The weights file {path} cannot be read: {error}", hint=_HINT) from error
    except Exception as error:  # pickle.UnpicklingError, without importing pickle for its name
        raise TrainingError(f"The weights file {path} holds more than tensors: {error}", hint=_HINT) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise TrainingError(f"The weights file {path} holds no state_dict.", hint=_HINT)
    return dict(state)


def architecture_of(path: Path) -> str | None:
    """Return the architecture that a .safetensors file names, as `export_backbone` does; None where it names none."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            named: str | None = (file.metadata() or {}).get("architecture")
    except (OSError, SafetensorError) as error:
        raise TrainingError(f"The weights file {path} cannot be read: {error}", hint=_HINT) from error
    return named


def load_weights(
    encoder: nn.Module,
    state: Mapping[str, Tensor],
    *,
    hint: str = "Set TAXONOMIST_BACKBONE to the architecture that the weights were trained with.",
    dry_run: bool = False,
) -> None:
    """Load the weights of a network into `encoder`, under whatever prefix they were saved; a classifier is ignored.

    With `dry_run` they are only checked. Raises TrainingError with the `hint`, and leaves the encoder as it was, when
    they are not those of its architecture.
    """
    wanted = encoder.state_dict()
    prefix = _prefix_of(state, wanted)
    found = {name: state[prefix + name] for name in wanted if prefix + name in state}
    # Older checkpoints lack the counters of batch norm, which evaluation does not use.
    missing = [name for name in wanted if name not in found and not name.endswith("num_batches_tracked")]
    wrong = [name for name, tensor in found.items() if tensor.shape != wanted[name].shape]
    if missing or wrong:
        example = (missing + wrong)[0]
        raise TrainingError(
            f"The weights do not fit the backbone: {len(missing)} arrays are missing and {len(wrong)} have another "
            f'shape, "{example}" for one.',
            hint=hint,
        )
    if not dry_run:
        encoder.load_state_dict({**wanted, **found})


def unused_arrays(encoder: nn.Module, state: Mapping[str, Tensor], classifiers: Iterable[str]) -> list[str]:
    """Return the names of arrays, under the prefix of the encoder's, that neither it nor one of the classifiers has."""
    wanted = encoder.state_dict()
    prefix = _prefix_of(state, wanted)
    names = [name.removeprefix(prefix) for name in state if name.startswith(prefix)]
    return [name for name in names if name not in wanted and not name.startswith(tuple(f"{of}." for of in classifiers))]


def _prefix_of(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Return the prefix of the names of an encoder's weights in `state`.

    torchvision saves "conv1.weight", this project "encoder.conv1.weight", MoCo "module.encoder_q.conv1.weight", ...
    Of several prefixes the one under which most of the `wanted` names are found is taken, the first of equals.
    """
    first = next(iter(wanted))
    prefixes = [name.removesuffix(first) for name in state if f".{name}".endswith(f".{first}")]
    return max(prefixes, key=lambda prefix: sum(prefix + name in state for name in wanted), default="")


def starter_weights() -> Weights:
    """Return the weights of the starter, in half precision as they ship."""
    return read_weights(FOLDER / WEIGHTS_FILE)
