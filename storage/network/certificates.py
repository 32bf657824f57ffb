"""The certificates of https. Reading them takes longer than fetching an image, so a process reads them once.

A server is trusted when its authority is on Mozilla's list (certifi), on the machine's own list, or in a file that
`SSL_CERT_FILE`, `SSL_CERT_DIR`, `REQUESTS_CA_BUNDLE` or `CURL_CA_BUNDLE` names. So a file with only the certificate of
a company is enough, and public servers stay reachable.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import httpx

from taxonomist.taxonomy.errors import ConfigError

__all__ = ["AuthorityFile", "authority_files", "bundle_for_requests", "certificates", "untrusted"]

_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
# https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/
_NOT_YET_VALID, _EXPIRED, _WRONG_NAME, _WRONG_ADDRESS = 9, 10, 62, 64


@dataclass(frozen=True)
class AuthorityFile:
    """A file or a folder whose certificates are trusted besides the public ones, and the variable that names it."""

    variable: str
    path: Path

    def __str__(self) -> str:
        return f"{self.path} ({self.variable})"


def authority_files() -> tuple[AuthorityFile, ...]:
    """Return what the environment names, each path once."""
    found: dict[Path, AuthorityFile] = {}
    for variable in _VARIABLES:
        text = os.environ.get(variable, "").strip()
        for part in text.split(os.pathsep) if variable == "SSL_CERT_DIR" else [text]:
            if part:
                path = Path(part).expanduser()
                found.setdefault(path, AuthorityFile(variable, path))
    return tuple(found.values())


def certificates() -> ssl.SSLContext:
    """Return the SSL context that all clients share.

    Raises `ConfigError` that names the variable whose file is missing, not readable or without a certificate.
    """
    return _context(authority_files())


@lru_cache(maxsize=1)
def _context(files: tuple[AuthorityFile, ...]) -> ssl.SSLContext:
    context = httpx.create_ssl_context(trust_env=False)
    context.load_default_certs()
    # In that line SSL_CERT_FILE and SSL_CERT_DIR replace the machine's own list, which is added here.
    known = ssl.get_default_verify_paths()
    for path in (known.openssl_cafile, known.openssl_capath):
        _add(context, Path(path))
    for file in files:
        _load(context, file)
    if files:
        # Python 3.13 is strict by default, and the certificates of many companies lack extensions that it then needs.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _load(context: ssl.SSLContext, file: AuthorityFile) -> None:
    try:
        # In a folder, links by hash lead to the same files, and other files may be beside the certificates.
        inner = file.path.iterdir() if file.path.is_dir() else [file.path]
        paths = {path.resolve() for path in inner if path == file.path or path.is_file()}
    except OSError as error:
        raise _unusable(file, error) from error
    errors = [_add(context, path) for path in paths]
    if all(errors):
        raise _unusable(file, errors[0] if errors else None)


def _add(context: ssl.SSLContext, path: Path) -> OSError | None:
    """Add the certificates of a file, or of a folder with hashed names. Return the error when it cannot be read."""
    try:
        context.load_verify_locations(**{"capath" if path.is_dir() else "cafile": str(path)})
    except OSError as error:
        return error
    return None


def _unusable(file: AuthorityFile, error: OSError | None) -> ConfigError:
    if error is None or isinstance(error, ssl.SSLError):
        return ConfigError(
            f"{file.variable} names {file.path}, which has no certificate in PEM form.",
            hint="Convert it with `openssl x509 -inform der -in company.cer -out company.pem`.",
        )
    return ConfigError(
        f"{file.variable} names {file.path}, which cannot be read ({error.strerror or error}).",
        hint=f"Correct {file.variable}, or unset it.",
    )


@contextmanager
def bundle_for_requests() -> Iterator[None]:
    """Let SDKs that are built on requests trust the same authorities while the block runs.

    requests reads one file, that of `REQUESTS_CA_BUNDLE`, in place of the public certificates. So it gets a file with
    all of them. Raises `ConfigError` as `certificates` does.
    """
    if not authority_files():
        yield
        return
    known, before = certificates().get_ca_certs(binary_form=True), os.environ.get("REQUESTS_CA_BUNDLE")
    with tempfile.TemporaryDirectory(prefix="taxonomist-") as folder:
        bundle = Path(folder) / "authorities.pem"
        bundle.write_text("".join(map(ssl.DER_cert_to_PEM_cert, known)), encoding="ascii")
        os.environ["REQUESTS_CA_BUNDLE"] = str(bundle)
        try:
            yield
        finally:
            if before is None:
                del os.environ["REQUESTS_CA_BUNDLE"]
            else:
                os.environ["REQUESTS_CA_BUNDLE"] = before


def untrusted(error: BaseException) -> tuple[str, str] | None:
    """Return why a server's certificate was refused, and what to do; None for an error of another kind."""
    refusals = [part for part in _chain(error) if isinstance(part, ssl.SSLCertVerificationError)]
    found = next((part for part in refusals if hasattr(part, "verify_message")), None)  # aiohttp's own has none
    if found is None:
        return None
    reason = f"its certificate is not trusted: {found.verify_message.rstrip('.')}"
    if found.verify_code in (_WRONG_NAME, _WRONG_ADDRESS):
        return reason, "Use an address with a name that is in its certificate."
    if found.verify_code in (_NOT_YET_VALID, _EXPIRED):
        return reason, "Renew its certificate, or correct the clock of this machine."
    if files := authority_files():
        return reason, f"Add the certificate of the authority that signed it to {files[0]}."
    return reason, "Set SSL_CERT_FILE to a file with the certificate of your company's authority, in PEM form."


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and those from which it was made; libraries keep them as the cause or as the context."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        part = pending.pop()
        if part is not None and id(part) not in seen:
            seen.add(id(part))
            yield part
            pending += [part.__context__, part.__cause__]
