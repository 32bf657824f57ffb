"""The certificates for https. Reading them takes longer than fetching an image, so a process reads them once."""

import functools
import ssl

import httpx

__all__ = ["certificates"]


@functools.cache
def certificates() -> ssl.SSLContext:
    """Return the SSL context that all clients share."""
    return httpx.create_ssl_context(trust_env=False)
