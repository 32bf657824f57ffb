"""torchvision's ImageNet weights: from torch's cache, or from the network into it. A download fails within seconds."""

import hashlib
import logging
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import torch
import torchvision

from taxonomist.storage.network.http_clients import http_client, reason_and_fix
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.architectures import get_architecture
from taxonomist.training.backbones.weights import Weights, read_weights

logger = logging.getLogger(__name__)

_RESPONSE_TIMEOUT = 5.0  # seconds until the server must have begun to respond
_READ_TIMEOUT = 10.0  # seconds without a byte
_TOTAL_TIMEOUT = 300.0  # seconds for the whole file (45 to 100 MB)
_MOST_BYTES = 2**30


class UnreachableError(Exception):
    """Weights could not be downloaded; the message is the reason."""


def imagenet_weights(architecture: str) -> Weights:
    """Return torchvision's default ImageNet weights.

    They come from torch's cache, or else from the network into that cache. Raises UnreachableError within seconds when
    the server does not respond, TrainingError when the cached file is damaged.
    """
    described = get_architecture(architecture)
    if described.library != "torchvision":
        raise UnreachableError("torchvision does not have this network; give its weights as a file")
    url = str(torchvision.models.get_model_weights(described.network).DEFAULT.url)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(url).path).name
    if not cached.exists():
        _download(url, cached)
    return read_weights(cached)


def _download(url: str, target: Path) -> None:
    """Download to a file beside `target`, check it against the hash in its name, and rename it."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            part = Path(folder) / target.name
            digest = _download_in_thread(url, part)
            # torchvision names a file by the first digits of its sha256: resnet18-f37072fd.pth
            if not digest.startswith(target.stem.rpartition("-")[2]):
                raise UnreachableError(f"the file from {url} does not have the checksum in its name")
            part.replace(target)
    except OSError as error:
        raise UnreachableError(f"{target.parent} cannot be written: {error}") from error


def _download_in_thread(url: str, target: Path) -> str:
    """Return the sha256 of the file that was downloaded to `target`.

    The thread is abandoned when the server does not respond: no timeout of httpx covers a name server that is silent.
    """
    responded, finished = threading.Event(), threading.Event()
    digests: list[str] = []
    errors: list[Exception] = []

    def work() -> None:
        try:
            digests.append(_stream(url, target, responded))
        except (httpx.HTTPError, ConfigError, OSError) as error:
            errors.append(error)
        finally:
            responded.set()
            finished.set()

    threading.Thread(target=work, name="weights-download", daemon=True).start()
    if not responded.wait(_RESPONSE_TIMEOUT) or not finished.wait(_TOTAL_TIMEOUT):
        raise UnreachableError(f"{urlsplit(url).hostname} does not answer")
    if errors:
        reason, fix = reason_and_fix(errors[0])
        raise UnreachableError(f"{urlsplit(url).hostname}: {reason}{f'. {fix}' if fix else ''}")
    return digests[0]


def _stream(url: str, target: Path, responded: threading.Event) -> str:
    digest = hashlib.sha256()
    deadline = time.monotonic() + _TOTAL_TIMEOUT
    timeout = httpx.Timeout(_READ_TIMEOUT, connect=_RESPONSE_TIMEOUT)
    with (
        http_client(timeout=timeout, stay=False, max_bytes=_MOST_BYTES) as client,
        client.stream("GET", url) as response,
        target.open("wb") as file,
    ):
        response.raise_for_status()
        logger.info("Downloading %s", url)
        responded.set()
        for chunk in response.iter_bytes(1 << 20):
            digest.update(chunk)
            file.write(chunk)
            if time.monotonic() > deadline:
                raise OSError(f"not finished after {_TOTAL_TIMEOUT:.0f} s")
    return digest.hexdigest()
