"""Weights of an encoder: from a file or from the starter into a module. Files are never unpickled freely."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import onnx
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from taxonomist.inference.embedder import BACKBONE_FILE
from taxonomist.inference.starter import FOLDER, STATISTICS
from taxonomist.taxonomy.errors import TrainingError

Weights = dict[str, Tensor]
_BATCH_NORM_EPSILON = 1e-5  # torch's


def read_weights(path: Path) -> Weights:
    """Return the tensors by name of a .safetensors file, or of a .pth file (a `state_dict` inside it is unwrapped).

    A .pth is read by torch's restricted loader, which runs no code. Raises TrainingError when it cannot be read.
    """
    hint = "Give a .safetensors file, or a .pth file that holds a state_dict."
    try:
        if path.suffix == ".safetensors":
            return dict(safetensors.torch.load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("state_dict", state) if isinstance(state, dict) else None
    except FileNotFoundError as error:
        raise TrainingError(f"The weights file {path} does not exist.", hint=hint) from error
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise TrainingError(f"The weights file {path} cannot be read: {error}", hint=hint) from error
    except Exception as error:  # pickle.UnpicklingError, without importing pickle for its name
        raise TrainingError(f"The weights file {path} holds more than tensors: {error}", hint=hint) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise TrainingError(f"The weights file {path} holds no state_dict.", hint=hint)
    return dict(state)


def load_weights(encoder: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load the weights of a network into `encoder`, under whatever prefix they were saved; a classifier is ignored.

    Raises TrainingError, and leaves the encoder as it was, when they are not those of its architecture.
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
            hint="Set TAXONOMIST_BACKBONE to the architecture that the weights were trained with.",
        )
    encoder.load_state_dict({**wanted, **found})


def _prefix_of(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Return the prefix of the names of an encoder's weights in `state`.

    torchvision saves "conv1.weight", this project "encoder.conv1.weight", MoCo "module.encoder_q.conv1.weight", ...
    Of several prefixes the one under which most of the `wanted` names are found is taken, the first of equals.
    """
    first = next(iter(wanted))
    prefixes = [name.removesuffix(first) for name in state if f".{name}".endswith(f".{first}")]
    return max(prefixes, key=lambda prefix: sum(prefix + name in state for name in wanted), default="")


def starter_weights(pairs: Iterable[tuple[str, str]]) -> Weights:
    """Return the starter's weights in single precision, for a training that continues from it.

    `pairs` are the names of its convolutions and of the batch norms after them. The starter has no batch norms: each is
    restored such that it changes nothing in evaluation, with the statistics that the starter's training images have
    there.
    """
    graph = onnx.load(FOLDER / BACKBONE_FILE).graph
    arrays = {array.name: torch.from_numpy(onnx.numpy_helper.to_array(array).copy()) for array in graph.initializer}
    statistics = safetensors.torch.load_file(FOLDER / STATISTICS)
    state = {}
    for conv, norm in pairs:
        scale = arrays[f"encoder.{conv}.weight_scale"].view(-1, 1, 1, 1)
        state[f"{conv}.weight"] = arrays[f"encoder.{conv}.weight_quantized"] * scale
        bias = arrays[f"encoder.{conv}.bias_quantized"] * arrays[f"encoder.{conv}.bias_quantized_scale"]
        mean, variance = statistics[f"{norm}.running_mean"], statistics[f"{norm}.running_var"]
        state |= {f"{norm}.running_mean": mean, f"{norm}.running_var": variance}
        state |= {f"{norm}.weight": (variance + _BATCH_NORM_EPSILON).sqrt(), f"{norm}.bias": bias + mean}
    return state
