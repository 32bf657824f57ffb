"""Errors of HTTP and of the SDK as `LabelStudioError`s that say what to do.

Label Studio's answers are never logged as a whole: their headers hold a session cookie.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
from pydantic import ValidationError

from taxonomist.storage.network.http_clients import RedirectedElsewhere, reason_and_fix
from taxonomist.taxonomy.errors import AuthError, LabelStudioError

SSRF_FIX = (
    "Start Label Studio with USE_DEFAULT_BANNED_SUBNETS=false "
    "(or with both SSRF_PROTECTION_ENABLED=false and ML_BLOCK_LOCAL_IP=false)."
)
ACCESS_FIX = (
    "Make an access token in Label Studio (Account & Settings) and give it as --api-key or in "
    "TAXONOMIST_LABEL_STUDIO_API_KEY."
)
REVOKED_FIX = (
    "It was revoked, or it is the token of another Label Studio. Make a new one (Account & Settings > Personal Access "
    "Token) and give it as --api-key to `taxonomist connect`, or in TAXONOMIST_LABEL_STUDIO_API_KEY."
)
LEGACY_FIX = (
    "Use a personal access token (Account & Settings > Personal Access Token), or allow legacy tokens under "
    "Organization > Access Token Settings."
)
ADDRESS_FIX = "Start it, or correct the address (--url or TAXONOMIST_LABEL_STUDIO_URL)."
DOTLESS_FIX = (
    "Label Studio accepts localhost, an IP address or a host name with a dot. Set TAXONOMIST_PUBLIC_URL to such an "
    "address, for example http://taxonomist.internal:9090 with that network alias in compose."
)
REACH_FIX = (
    "Label Studio must reach the backend: start `taxonomist serve`, and set TAXONOMIST_PUBLIC_URL to the address that "
    "works from Label Studio's machine or container."
)
BACKEND_AUTH_FIX = "Run `taxonomist connect` with the TAXONOMIST_PASSWORD that `taxonomist serve` runs with."


@contextmanager
def translated(url: str, doing: str) -> Iterator[None]:
    """Raise a `LabelStudioError` in place of the errors of httpx and of the SDK; `doing` completes "Cannot …"."""
    from label_studio_sdk.core.api_error import ApiError  # noqa: PLC0415 - the SDK

    try:
        yield
    except ApiError as error:
        raise refusal(url, doing, error.status_code or 0, error.body) from None
    except AuthError as error:
        raise LabelStudioError(f"Cannot {doing}: {error.args[0]}", hint=REVOKED_FIX) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise unreachable(url, doing, error) from None
    except (ValidationError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise LabelStudioError(
            f"Cannot {doing}: Label Studio at {url} sent an answer that cannot be parsed ({type(error).__name__}).",
            hint="Run `taxonomist doctor`: it checks the version of Label Studio.",
        ) from error


def unreachable(url: str, doing: str, error: Exception) -> LabelStudioError:
    """Return the error for a request without an answer."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return LabelStudioError(
            f"Cannot {doing}: Label Studio at {url} took too long to answer.", hint="Try again when it is less busy."
        )
    if isinstance(error, RedirectedElsewhere) and not error.is_downgrade:
        return LabelStudioError(
            f"Cannot {doing}: {error}.",
            hint=f"If Label Studio is there, run `taxonomist connect --url {error.base} …`, or set "
            f"TAXONOMIST_LABEL_STUDIO_URL={error.base}. If that is a page to log in, it must let /api through.",
        )
    reason, fix = reason_and_fix(error)
    return LabelStudioError(f"Label Studio at {url} cannot be reached ({reason}).", hint=fix or ADDRESS_FIX)


def refusal(url: str, doing: str, status: int, body: Any) -> LabelStudioError:
    """Return the error for an answer with an error status, or one that is not Label Studio's."""
    if not isinstance(body, Mapping):
        return LabelStudioError(f"{url} answers ({status}), but it is not Label Studio.", hint=ADDRESS_FIX)
    reason = explain(body)
    message = f"Cannot {doing}: Label Studio answered {status}" + (f" ({reason})." if reason else ".")
    return LabelStudioError(message, hint=_hint(status, reason))


def explain(body: Any) -> str:
    """Return Label Studio's reason in one line: its detail or its validation errors, without HTML."""
    if not isinstance(body, Mapping):
        return ""
    parts = list(_texts(body.get("validation_errors"))) or list(_texts(body.get("detail")))
    text = re.sub(r"<[^<>]*>", "", " ".join(parts))
    return re.sub(r"\s+", " ", text).strip().rstrip(".")[:500]


def _hint(status: int, reason: str) -> str:
    lower = reason.lower()
    if "reserved network" in lower or "ssrf" in lower or "local ip" in lower or "banned" in lower:
        return SSRF_FIX
    if "enter a valid url" in lower:
        return DOTLESS_FIX
    if "health check failed" in lower:
        return REACH_FIX
    if status == 400 and ("authentication" in lower or "401 client error" in lower):
        return BACKEND_AUTH_FIX
    if "look like a valid ml backend" in lower:
        return "The log of `taxonomist serve` has the reason."
    if status == 401:
        return LEGACY_FIX if "legacy" in lower else REVOKED_FIX
    if status == 403:
        return "The token's user may not do this: use a token of the project's owner or of an administrator."
    if status == 404:
        return "Check the project's number; it is in the address of its page, as in /projects/4."
    if status >= 500:
        return "Label Studio's log has the reason."
    return "Run `taxonomist doctor`."


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            for text in _texts(inner):
                yield text if name == "non_field_errors" else f"{name}: {text}"
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts(inner)
    elif value:
        yield str(value)
