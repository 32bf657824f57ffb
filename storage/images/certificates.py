"""The certificates that https is checked against: reading them takes longer than an image, so once a process."""

import functools
import ssl

import httpx

__all__ = ["certificates"]


@functools.cache
def certificates() -> ssl.SSLContext:
    """Shared by all clients."""
    return httpx.create_ssl_context(trust_env=False)
