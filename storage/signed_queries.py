"""The parameters by which a query is signed, which change from link to link while the object stays the same."""

import re
from collections.abc import Set
from urllib.parse import unquote_plus

__all__ = ["without_signature"]

# https://learn.microsoft.com/rest/api/storageservices/delegate-access-with-shared-access-signature
_AZURE_SAS = frozenset(
    {"sv", "ss", "srt", "sr", "sp", "st", "se", "sip", "spr", "si", "sig", "sdd", "ses", "scid", "saoid", "suoid"}
    | {"skoid", "sktid", "skt", "ske", "sks", "skv", "skdutid", "sduoid", "rscc", "rscd", "rsce", "rscl", "rsct"}
)
_V4 = {"algorithm", "credential", "date", "expires", "signedheaders", "signature", "security-token", "content-sha256"}
# https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
_AWS_V4 = frozenset(f"x-amz-{name}" for name in _V4 | {"s3session-token", "region-set"})
# https://cloud.google.com/storage/docs/authentication/canonical-requests
_GOOGLE_V4 = frozenset(f"x-goog-{name}" for name in _V4)
_AWS_V2 = frozenset({"awsaccesskeyid", "expires", "signature", "x-amz-security-token"})
_GOOGLE_V2 = frozenset({"googleaccessid", "expires", "signature"})
# https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/private-content-signed-urls.html
_CLOUDFRONT = frozenset({"key-pair-id", "expires", "policy", "signature", "hash-algorithm"})

# The first family counts whose marks are all in the query.
_FAMILIES: tuple[tuple[Set[str], Set[str]], ...] = (
    ({"sig", "sv"}, _AZURE_SAS),
    ({"x-amz-signature"}, _AWS_V4),
    ({"x-goog-signature"}, _GOOGLE_V4),
    ({"signature", "awsaccesskeyid"}, _AWS_V2),
    ({"signature", "googleaccessid"}, _GOOGLE_V2),
    ({"signature", "key-pair-id"}, _CLOUDFRONT),
    ({"signature"}, frozenset({"signature", "expires"})),
)
_LONG_TOKEN = re.compile(r"[\w+/=.~-]{20,}", re.ASCII)


def without_signature(query: str) -> str:
    """Return the query of an http(s) address without the parameters of its signature; all others stay as written.

    Known are the signatures of Azure (SAS), AWS (versions 2 and 4), Google Cloud (2 and 4) and CloudFront, and a
    `signature` or a long `sig` of any other server. A query without a signature is returned unchanged.

    >>> without_signature("id=1&sv=2024-11-04&sr=b&sp=r&sig=abc%3D")
    'id=1'
    """
    fields = [(_name(field), field) for field in query.split("&")]
    names = {name for name, _ in fields}
    own = next((own for marks, own in _FAMILIES if marks <= names), None)
    if own is None:
        own = frozenset({"sig"}) if any(_is_token(field) for name, field in fields if name == "sig") else frozenset()
    return "&".join(field for name, field in fields if name not in own)


def _name(field: str) -> str:
    return unquote_plus(field.partition("=")[0]).lower()


def _is_token(field: str) -> bool:
    return bool(_LONG_TOKEN.fullmatch(unquote_plus(field.partition("=")[2])))
