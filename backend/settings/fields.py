"""What the values of settings may be: the types of the fields, with their checks."""

from __future__ import annotations

import json
import re
from datetime import datetime
from ipaddress import ip_network
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import NoDecode

from taxonomist.storage.network.proxies import parse_proxy
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.architectures import TIMM, architecture_names, list_of_names

MAX_ADDRESS_CHARACTERS = 1000


def _web_address(url: str) -> str:
    """Return an http(s) address without a trailing slash.

    Credentials in it are refused: they would end up in logs and in Label Studio's database.
    """
    if len(url) > MAX_ADDRESS_CHARACTERS or not url.isprintable() or " " in url:
        raise ValueError(f"must have at most {MAX_ADDRESS_CHARACTERS} characters, and no blanks")
    parts = urlsplit(url)
    if parts.port == 0:  # reading it checks it
        raise ValueError("must not have the port 0")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must look like http://host:port")
    if parts.username or parts.password:
        raise ValueError("must not contain a user name or password; use the settings for them")
    return url.rstrip("/")


def _sendable(secret: SecretStr) -> SecretStr:
    """Refuse characters outside Latin-1: Label Studio sends basic authentication in Latin-1 and fails with others."""
    try:
        secret.get_secret_value().encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(
            "has characters that Label Studio cannot send; use letters, digits and punctuation of Latin-1"
        ) from None
    return secret


def _proxy(secret: SecretStr) -> SecretStr:
    """Refuse everything but the address of an http(s) proxy. It is secret, because it may have a password."""
    try:
        parse_proxy(secret.get_secret_value(), "it")
    except ConfigError:
        raise ValueError(
            "must look like http://host:port; in a password, write @ as %40, / as %2F and # as %23"
        ) from None
    return secret


def _schedule(text: str) -> str:
    """Refuse everything but a schedule of five fields, as in a crontab."""
    try:
        CronSim(text, datetime.now())
    except CronSimError as error:
        raise ValueError(f'is not a schedule such as "0 1 * * 6": {error}') from None
    if len(text.split()) != 5:
        raise ValueError('needs five fields, such as "0 1 * * 6"')
    return text


def _architecture(name: str) -> str:
    """Return the name of a registered architecture, or of a network of timm."""
    if name not in architecture_names() and not re.fullmatch(rf"{TIMM}[\w.]+", name):
        raise ValueError(f"must be {list_of_names()}, or {TIMM}NAME")
    return name


def _product_field(text: str) -> str:
    """Return the name of a task field, or a pattern of the file name in which `{product}` stands once."""
    text = text.strip()
    if not text:
        raise ValueError("must name a field of the tasks, or be a pattern such as {product}_*.jpg")
    if ("{" in text or "}" in text or "*" in text) and (
        text.count("{product}") != 1 or set("{}") & set(text.replace("{product}", ""))
    ):
        raise ValueError("a pattern of the file name has {product} once, such as {product}_*.jpg or {product}/*")
    return text


def _list_of_texts(value: object) -> object:
    """Return the list in a text such as `a,b` or `["a", "b"]`; other values are returned as they are."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return [part for part in (part.strip() for part in value.split(",")) if part]
    try:
        parts: Any = json.loads(value)
    except ValueError:
        parts = None
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise ValueError('is not a list; write it as a,b or as ["a", "b"]')
    return parts


def _network(text: str) -> str:
    """Refuse everything but an IP address or a network."""
    try:
        ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is not an IP address or a network such as 10.0.0.0/8") from None
    return text


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


Texts = Annotated[list[str], NoDecode, BeforeValidator(_list_of_texts)]
"""A list, which the environment may give as `a,b` or as JSON."""

OptionalTexts = Annotated[list[str] | None, NoDecode, BeforeValidator(_list_of_texts)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
WebAddresses = Annotated[list[WebAddress], NoDecode, BeforeValidator(_list_of_texts)]
Networks = Annotated[list[Annotated[str, AfterValidator(_network)]], NoDecode, BeforeValidator(_list_of_texts)]
SendableSecret = Annotated[SecretStr, AfterValidator(_sendable)]
ProxyAddress = Annotated[SecretStr, AfterValidator(_proxy)]
CronSchedule = Annotated[str, AfterValidator(_schedule)]
ArchitectureName = Annotated[str, AfterValidator(_architecture)]
ProductField = Annotated[str, AfterValidator(_product_field)]
Annotators = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Agreement = Literal["two_thirds", "majority", "dawid_skene"]
TargetPrecision = Annotated[float, Field(gt=0, lt=1)]
Promotion = Literal["auto", "manual"]

Order = Literal["none", "diverse"]
LogLevel = Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(_upper)]
