"""The manifest file of a version: hashes and sizes of its files, and a digest of the manifest itself."""

import hashlib
import json
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from taxonomist.storage.formats import FORMAT, check_format, format_of
from taxonomist.storage.registry.model_version import MANIFEST, ModelVersion
from taxonomist.taxonomy.errors import DamagedError, StorageError

__all__ = [
    "MANIFEST",
    "check_files",
    "damaged",
    "describe_files",
    "manifest_bytes",
    "manifest_of",
    "parse_manifest",
    "read_manifest",
    "sealed",
]

_FORMAT = 1
_PICKLES = {".pkl", ".pickle", ".pt", ".pth", ".joblib", ".npy", ".npz", ".ckpt"}


def describe_files(folder: Path, *, leave_out: str) -> dict[str, dict[str, Any]]:
    """Return the size and SHA-256 of each file below the folder, by its path with `/`.

    Raises `StorageError` for links and for formats that are, or may contain, a pickle.
    """
    described: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise StorageError(f"{path} is a link.", hint="Publish the file itself.")
        if path.suffix.lower() in _PICKLES:
            raise StorageError(f"{path} may contain a pickle.", hint="Save weights as safetensors or ONNX.")
        if path.is_file() and name != leave_out:
            described[name] = {"sha256": _sha256(path), "size": path.stat().st_size}
    return described


def sealed(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the manifest with `digest`, the SHA-256 of its other entries."""
    plain = json.loads(json.dumps({key: value for key, value in manifest.items() if key != "digest"}))
    return {**plain, "digest": _digest(plain)}


def manifest_of(name: str, files: Path, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the complete manifest of a new version, with its digest. Raises `StorageError` as `describe_files`."""
    described = describe_files(files, leave_out=MANIFEST)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return sealed({**manifest, FORMAT: _FORMAT, "name": name, "files": described, "published_at": now})


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """Return the bytes of the manifest file."""
    return json.dumps(manifest, indent=2, ensure_ascii=False).encode()


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest in a file. Raises `DamagedError` when it is not JSON or does not match its digest."""
    return parse_manifest(path.read_bytes(), path)


def parse_manifest(data: bytes, path: object) -> dict[str, Any]:
    """Return the manifest in the bytes of a file; `path` names the file in errors. Raises `DamagedError`."""
    try:
        manifest = json.loads(data)
        plain = {key: value for key, value in manifest.items() if key != "digest"}
        intact = manifest["digest"] == _digest(plain)
    except (ValueError, AttributeError, KeyError) as error:
        raise damaged(path, "cannot be read") from error
    if not intact:
        raise damaged(path, "does not match its own digest")
    check_format(path, format_of(manifest), _FORMAT)
    return dict(manifest)


def check_files(version: ModelVersion, *, contents: Collection[str]) -> None:
    """Raise `DamagedError` unless each file exists with its size, and those in `contents` have their SHA-256."""
    for name, entry in version.files.items():
        path = version.path / name
        if not path.is_file():
            raise damaged(path, "is missing")
        if path.stat().st_size != entry.size:
            raise damaged(path, f"has {path.stat().st_size} bytes instead of {entry.size}")
        if name in contents and _sha256(path) != entry.sha256:
            raise damaged(path, "does not match its SHA-256")


def damaged(path: object, what: str) -> DamagedError:
    """Return the error for a damaged file of a version."""
    return DamagedError(f"The model file {path} {what}.", hint="Roll back to another version, or train again.")


def _digest(manifest: Mapping[str, Any]) -> str:
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
