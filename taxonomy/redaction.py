"""Texts for logs, errors and tables: without the queries, user names and passwords of addresses in them.

A query may be a signature, such as that of Azure (SAS), and people write passwords into addresses. Where it is not
clear what belongs to an address, more is left out than needed.
"""

import re
from unicodedata import category
from urllib.parse import unquote

__all__ = ["printable", "redacted"]

LEFT_OUT = "…"

# An address in quotes ends with them, whatever is in it. In JSON that was quoted itself, backslashes stand before each.
_QUOTED = re.compile(r"""(?<!\\)(\\{0,3}["'`])((?:[a-z][a-z0-9+.-]{0,20}:)?//.*?)(?<!\\)\1""", re.IGNORECASE)
_WORD = re.compile(r"\S+")
_CLOSING = "'\"`)]}>.,;:!"
_HINTS = ("?", "@", "=", "://", "%", "port", "Port")
# "http://host:port" is how our messages show an address. After a port, a mark may begin other text.
_PORT = re.compile(r"(?:[0-9]{0,5}|port)(?:[^\w@]*$|[\s\"'`<>()\[\]{},;|][^@]*$)", re.ASCII)
_FILE = re.compile(r"/data/local-files/?\?d=[^&?]*")  # a file's name, by which Label Studio serves it
_NOT_A_PORT = re.compile(  # what libraries say about an address whose password has a slash in it
    r"""((?:[Ii]nvalid|nonnumeric) port: ['"]|integer value as ['"])(?![0-9]+['"])[^'"]+"""
    r"""|(:)[^:'"\s]+(?=['"] is not a valid host or port)"""
)
_SECRET = re.compile(
    r"(?<![\w-])(sig|signature|token|access_token|refresh_token|id_token|password|passwd|pwd|secret|api_?key|account_?key"
    r"|shared_?access_?(?:key|signature)|aws_?access_?key_?id|credential|x-amz-[a-z0-9-]{1,40}|x-goog-[a-z0-9-]{1,40})"
    r"(=|%3d)[^\s&;,\"'`)<>]+",
    re.IGNORECASE,
)


def redacted(text: str) -> str:
    """Return a text in which addresses have no query, user name and password; it takes time linear in the length.

    >>> redacted("GET https://u:pw@account.blob.core.windows.net/c/a.jpg?sv=1&sig=abc failed")
    'GET https://account.blob.core.windows.net/c/a.jpg?… failed'
    """
    if not any(hint in text for hint in _HINTS):
        return text
    parts, end = [], 0
    for found in _QUOTED.finditer(text):
        parts += [_words(text[end : found.start()]), found[1], _without_secrets(found[2]), found[1]]
        end = found.end()
    shown = "".join([*parts, _words(text[end:])])
    return _SECRET.sub(rf"\1\2{LEFT_OUT}", _NOT_A_PORT.sub(rf"\1\2{LEFT_OUT}", shown))


def printable(text: str) -> str:
    """Return a text in which all but letters, marks and blanks is escaped: control characters, line breaks of any kind,
    and characters that have no shape or change the direction of writing.

    >>> printable("two\\nlines")
    'two\\\\nlines'
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or category(letter) == "Zs" else repr(letter)[1:-1] for letter in text
    )


def _words(text: str) -> str:
    return _WORD.sub(_word, text)


def _word(word: re.Match[str]) -> str:
    text = word[0]
    body = text.rstrip(_CLOSING)
    return f"{_without_secrets(body)}{text[len(body) :]}"


def _without_secrets(address: str) -> str:
    shown = _without_query(_without_user(address))
    lower = shown.lower()
    if "%40" not in lower and "%25" not in lower:
        return shown
    # An address inside another one is percent-encoded, perhaps twice. It is shown so unless it has secrets.
    decoded = unquote(unquote(shown))
    inner = _without_query(_without_user(decoded))
    if inner == decoded:
        return shown
    return inner if inner.isprintable() else LEFT_OUT


def _without_user(text: str) -> str:
    first, *others = text.split("://")
    first = _without_bare_user(first) if "@" in first else first
    return "://".join([first, *map(_site, others)])


def _without_bare_user(text: str) -> str:
    """Return `user:password@host`, which has no scheme, without the first two; `4@b` stays."""
    before, _, host = text.rpartition("@")
    # The password may have any marks: the name begins after the last one before the first colon.
    colon = before.find(":")
    start = max(before.rfind(mark, 0, max(colon, 0)) for mark in "/\\\"'`([{<=,") + 1
    name, mark, _ = before[start:].partition(":")
    return f"{text[:start]}{LEFT_OUT}@{host}" if name and mark and host else text


def _site(text: str) -> str:
    """Return what follows "://" without user name and password."""
    end = min((at for mark in "/?#\\" if (at := text.find(mark)) >= 0), default=len(text))
    authority = text[:end]
    if "@" in authority:
        return authority.rpartition("@")[2] + text[end:]
    if not authority.startswith("[") and ":" in authority and not _PORT.fullmatch(authority.partition(":")[2]):
        # No port: a password with a slash in it, or one that was cut off.
        return text.rpartition("@")[2] if "@" in text else LEFT_OUT
    return text


def _without_query(text: str) -> str:
    kept, start = "", 0
    if found := _FILE.search(text):
        kept, start = text[: found.end()], found.end()
        if text[start : start + 1] == "&":
            return f"{kept}&{LEFT_OUT}"
    head, mark, query = text[start:].partition("?")
    if query and ("=" in query or "%3d" in query.lower() or "http://" in text or "https://" in text):
        return f"{kept}{head}{mark}{LEFT_OUT}"
    at = text.lower().find("%3f", start)
    if at >= 0 and ("=" in text[at:] or "%3d" in text[at:].lower()):
        return f"{text[:at]}{text[at : at + 3]}{LEFT_OUT}"
    return text
