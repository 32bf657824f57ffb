"""Start weights: from a file, the starter, torch's own cache, or torchvision's server. Never unpickled freely."""

import hashlib
import logging
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import onnx
import safetensors.torch
import torch
import torchvision
from safetensors import SafetensorError
from torch import Tensor

from taxonomist.inference.embedder import BACKBONE_FILE
from taxonomist.inference.starter import FOLDER, STATISTICS
from taxonomist.taxonomy.errors import TrainingError

logger = logging.getLogger(__name__)

Weights = dict[str, Tensor]
_ANSWER_WITHIN = 5.0  # seconds until the server must have begun to answer
_SILENCE = 10.0  # seconds without a byte
_WHOLE = 300.0  # seconds for all of it (45 to 100 MB)
_BATCH_NORM_EPSILON = 1e-5  # torch's


class Unreachable(Exception):  # noqa: N818 - a reason, caught by the one caller
    """Why weights cannot be had from the network."""


def read_weights(path: Path) -> Weights:
    """Arrays by name from a .safetensors file, or a .pth file of plain tensors (`state_dict` inside is unwrapped).

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


def starter_weights(pairs: Iterable[tuple[str, str]]) -> Weights:
    """The starter's weights in single precision, for a training that goes on from it.

    `pairs` are the names of its convolutions and of the batch norms after them. The starter has none of the latter:
    each is given back such that it changes nothing in evaluation, with the statistics that its pictures had there.
    """
    graph = onnx.load(FOLDER / BACKBONE_FILE).graph
    found = {each.name: torch.from_numpy(onnx.numpy_helper.to_array(each).copy()) for each in graph.initializer}
    statistics = safetensors.torch.load_file(FOLDER / STATISTICS)
    state = {}
    for conv, norm in pairs:
        scale = found[f"encoder.{conv}.weight_scale"].view(-1, 1, 1, 1)
        state[f"{conv}.weight"] = found[f"encoder.{conv}.weight_quantized"] * scale
        bias = found[f"encoder.{conv}.bias_quantized"] * found[f"encoder.{conv}.bias_quantized_scale"]
        mean, variance = statistics[f"{norm}.running_mean"], statistics[f"{norm}.running_var"]
        state |= {f"{norm}.running_mean": mean, f"{norm}.running_var": variance}
        state |= {f"{norm}.weight": (variance + _BATCH_NORM_EPSILON).sqrt(), f"{norm}.bias": bias + mean}
    return state


def imagenet_weights(architecture: str) -> Weights:
    """torchvision's default ImageNet weights, from torch's cache or else from the network into that cache.

    Raises Unreachable within seconds when the server does not answer, TrainingError when the cached file is damaged.
    """
    url = str(torchvision.models.get_model_weights(architecture).DEFAULT.url)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    if not cached.exists():
        _download(url, cached)
    return read_weights(cached)


def _download(url: str, target: Path) -> None:
    """Fetch to a file beside `target`, check it against the hash in its name, and rename it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            part = Path(folder) / target.name
            digest = _fetch(url, part)
            # torchvision names a file by the first digits of its sha256: resnet18-f37072fd.pth
            if not digest.startswith(target.stem.rpartition("-")[2]):
                raise Unreachable(f"what {url} gave does not have the checksum in its name")
            part.replace(target)
    except OSError as error:
        raise Unreachable(f"{target.parent} cannot be written: {error}") from error


def _fetch(url: str, target: Path) -> str:
    """Download in a thread that is left behind when nothing comes: no timeout reaches a name server that is silent."""
    answered, finished = threading.Event(), threading.Event()
    result: list[str] = []
    problem: list[Exception] = []

    def work() -> None:
        try:
            result.append(_stream(url, target, answered))
        except (httpx.HTTPError, OSError) as error:
            problem.append(error)
        finally:
            answered.set()
            finished.set()

    threading.Thread(target=work, name="weights-download", daemon=True).start()
    if not answered.wait(_ANSWER_WITHIN) or not finished.wait(_WHOLE):
        raise Unreachable(f"{urlsplit(url).hostname} does not answer")
    if problem:
        raise Unreachable(f"{urlsplit(url).hostname}: {problem[0]}")
    return result[0]


def _stream(url: str, target: Path, answered: threading.Event) -> str:
    digest = hashlib.sha256()
    deadline = time.monotonic() + _WHOLE
    timeout = httpx.Timeout(_SILENCE, connect=_ANSWER_WITHIN)
    with httpx.stream("GET", url, timeout=timeout, follow_redirects=True) as response, target.open("wb") as file:
        response.raise_for_status()
        logger.info("Downloading %s", url)
        answered.set()
        for chunk in response.iter_bytes(1 << 20):
            digest.update(chunk)
            file.write(chunk)
            if time.monotonic() > deadline:
                raise OSError(f"not finished after {_WHOLE:.0f} s")
    return digest.hexdigest()
