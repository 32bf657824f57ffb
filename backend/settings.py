"""Every setting in one place: environment (`TAXONOMIST_…`), then `taxonomist.toml`, then the defaults below."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import platformdirs
from cronsim import CronSim, CronSimError
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from rapidfuzz import process

from taxonomist.taxonomy.agreement import AgreementPolicy
from taxonomist.taxonomy.errors import ConfigError
from taxonomist.training.backbones.architectures import architecture_names, list_of_names

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


def _web_address(url: str) -> str:
    """An http(s) address without a trailing slash.

    Credentials inside it are refused: they would end up in logs and in Label Studio's database.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must look like http://host:port")
    if parts.username or parts.password:
        raise ValueError("must not contain a user name or password; use the settings for them")
    return url.rstrip("/")


def _sendable(secret: SecretStr) -> SecretStr:
    """Label Studio sends basic authentication in Latin-1 and fails at anything else."""
    try:
        secret.get_secret_value().encode("latin-1")
    except UnicodeEncodeError:
        raise ValueError(
            "has characters that Label Studio cannot send; use letters, digits and signs of Latin-1"
        ) from None
    return secret


def _schedule(text: str) -> str:
    """Five fields, as in a crontab."""
    try:
        CronSim(text, datetime.now())
    except CronSimError as error:
        raise ValueError(f'is not a schedule such as "0 1 * * 6": {error}') from None
    if len(text.split()) != 5:
        raise ValueError('needs five fields, such as "0 1 * * 6"')
    return text


def _architecture(name: str) -> str:
    """The name of a registered architecture."""
    if name not in architecture_names():
        raise ValueError(f"must be {list_of_names()}")
    return name


WebAddress = Annotated[str, AfterValidator(_web_address)]


class Settings(BaseSettings):
    """The product's settings; the README's table is checked against this class."""

    model_config = SettingsConfigDict(
        env_prefix="TAXONOMIST_", toml_file="taxonomist.toml", extra="forbid", env_ignore_empty=True
    )

    # Where state lives
    home: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("taxonomist"), description="The one folder of all state"
    )
    images_folder: Path | None = Field(None, description="Folder that plain file names in tasks are read from")

    # The server
    host: str = Field("127.0.0.1", description="Address to listen on; any but loopback needs a password")
    port: int = Field(9090, ge=1, le=65535, description="Port to listen on")
    threads: int = Field(8, ge=1, description="Request threads of the server")
    public_url: WebAddress | None = Field(
        None, description="Address at which Label Studio reaches the server; default http://host:port"
    )
    browser_url: WebAddress | None = Field(
        None, description="Address at which browsers reach the look-alike page, where it differs from public_url"
    )
    username: str = Field("taxonomist", description="User name for basic authentication")
    password: Annotated[SecretStr, AfterValidator(_sendable)] | None = Field(
        None, description="Password for basic authentication; unset means open"
    )
    webhook_secret: SecretStr | None = Field(
        None, description="Value of the secret header on webhooks; default is made once and kept in the home folder"
    )
    allow_no_password: bool = Field(False, description="Serve on other addresses than loopback without a password")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="How much is logged")

    # Label Studio
    label_studio_url: WebAddress | None = Field(None, description="Address of Label Studio")
    label_studio_api_key: SecretStr | None = Field(
        None, description="Personal access token or legacy token of a Label Studio user"
    )
    sync_every: int = Field(3600, ge=0, description="Seconds between passes for missed webhooks; 0 turns them off")
    push_predictions: bool = Field(
        True, description="After a promotion, write the new model's suggestions to tasks without annotations"
    )

    # Images
    allowed_image_hosts: list[str] = Field(
        [],
        description="Hosts that images may be fetched from besides Label Studio: host, host:port or *.suffix",
    )
    max_image_bytes: int = Field(50_000_000, ge=1, description="Largest image file that is read, in bytes")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Largest image that is decoded, in pixels")
    image_timeout: float = Field(20.0, gt=0, description="Seconds in which one image must have been fetched")
    image_cache_bytes: int = Field(2_000_000_000, ge=0, description="Size of the cache of fetched images, in bytes")
    allow_private: bool = Field(
        False,
        description="Show pictures with faces or personal data as look-alikes, and copy them for pre-training",
    )

    # Which annotations become accepted labels
    min_annotators: int = Field(2, ge=1, description="Annotators that must have named a path")
    min_agreement: float = Field(
        2 / 3,
        gt=0,
        le=1,
        description="Share of an image's annotators that must name a path; 0.67 is more than two of three",
    )
    require_review: bool = Field(False, description="Accept only reviewed or ground-truth annotations")
    skips_as: list[str] | None = Field(
        None, description='Taxonomy path that a skipped task votes for, for example ["Sort Out"]; unset: no vote'
    )

    # Backbone and head
    backbone: Annotated[str, AfterValidator(_architecture)] = Field(
        "resnet18", description=f"Architecture of the backbone: {list_of_names()}"
    )
    backbone_weights: str = Field(
        "auto",
        description="Start weights: auto (ImageNet where it can be had, else the starter), imagenet, starter, random "
        "or a file",
    )
    image_size: int | None = Field(
        None,
        ge=32,
        le=1024,
        description="Side of the square that pictures are resized to, in pixels; unset: the backbone's own, 160, or "
        "the starter's 80",
    )
    views: int = Field(4, ge=0, le=32, description="Augmented views that are embedded of each labelled image")
    imbalance: Literal["none", "oversample", "weights"] = Field(
        "oversample", description="What is done about rare classes in training"
    )
    head_hidden: int = Field(256, ge=8, description="Width of the head's hidden layer")
    head_epochs: int = Field(30, ge=1, description="Most epochs of a head's training; it stops early by itself")
    test_share: float = Field(0.2, gt=0, lt=0.9, description="Share of images kept for comparing versions")
    validation_share: float = Field(
        0.2, gt=0, lt=0.9, description="Share of the rest that early stopping and calibration use"
    )
    seed: int = Field(0, ge=0, description="Seed of every random choice")

    # Pre-training of the backbone
    pretrain_schedule: Annotated[str, AfterValidator(_schedule)] | None = Field(
        None,
        description='When to pre-train, as cron writes it, in local time: "0 1 * * 6" is Saturdays at one; '
        "unset: only by hand",
    )
    pretrain_min_new: int = Field(
        1000, ge=0, description="Pictures that no pre-training has seen, below which a due one is left out"
    )
    pretrain_preset: str = Field("default", description="Recipe of a pre-training, see `taxonomist pretrain --help`")
    pretrain_weights: str | None = Field(
        None,
        description="Start weights of a pre-training: champion (the backbone that is served), imagenet, starter, "
        "random or a file; unset: the recipe's, see `taxonomist pretrain --help`",
    )
    pretrain_device: Literal["auto", "cuda", "cpu"] = Field("auto", description="Where to pre-train")
    pretrain_skip_blurred: bool = Field(True, description="Pre-train without pictures that are marked as blurred")
    pretrain_skip_sorted_out: bool = Field(True, description="Pre-train without pictures that were sorted out")
    pretrain_skip_test: bool = Field(
        False, description="Pre-train without pictures that a project keeps for testing; their labels are never used"
    )

    # When to train and what to suggest
    retrain_after: float = Field(120.0, ge=0, description="Seconds of quiet after an annotation before retraining")
    retrain_every: int = Field(50, ge=1, description="Newly accepted labels that start a retraining at once")
    target_precision: float = Field(
        0.9, gt=0, lt=1, description="Precision that a suggestion must reach; levels below it are left out"
    )
    neighbours: int = Field(8, ge=1, le=100, description="Look-alikes that are shown or that vote")
    predict_deadline: float = Field(
        80.0, gt=0, description="Seconds after which the rest of a prediction request is left to the worker"
    )

    # Azure; without a key or a connection string Entra ID says who we are
    azure_timeout: float = Field(
        60.0, gt=0, description="Seconds that one call to Azure may take, with all its repetitions"
    )
    cosmos_connection_string: SecretStr | None = Field(
        None, description="Moves the catalogue to Azure Cosmos DB: its connection string"
    )
    cosmos_endpoint: WebAddress | None = Field(
        None, description="Moves the catalogue to Azure Cosmos DB: its address; without a key by Entra ID"
    )
    cosmos_key: SecretStr | None = Field(None, description="Key of that Cosmos DB")
    cosmos_database: str = Field("taxonomist", description="Database in Cosmos DB")
    cosmos_containers: list[str] = Field(
        ["images"], description="Containers with image documents; new ones go into the first"
    )
    blob_connection_string: SecretStr | None = Field(
        None, description="Storage account that images may be in: its connection string"
    )
    blob_account_url: WebAddress | None = Field(
        None, description="Storage account that images may be in: its address; by Entra ID"
    )
    blob_containers: list[str] = Field(
        [], description="Containers that images are read from; none named: every one of the account"
    )
    models_container: str | None = Field(
        None, description="Moves models and embeddings to this container of the storage account"
    )
    link_minutes: int = Field(
        60, ge=4, le=10080, description="Life of the links by which the look-alike page shows pictures in Azure"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)

    @cached_property
    def url(self) -> str:
        """The address under which Label Studio and browsers reach the server, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"

    @property
    def page_url(self) -> str:
        """The address under which browsers reach our pages, without a trailing slash."""
        return self.browser_url or self.url

    @property
    def agreement(self) -> AgreementPolicy:
        """The rule by which annotations become an accepted label."""
        return AgreementPolicy(
            min_annotators=self.min_annotators,
            min_agreement=self.min_agreement,
            require_review=self.require_review,
            skips_as=tuple(self.skips_as) if self.skips_as else None,
        )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK_HOSTS or self.host.startswith("127.")


def load_settings(**overrides: object) -> Settings:
    """The settings in force; `overrides` (None means not given) win over environment and file.

    Raises `ConfigError` that names each wrong setting, the value seen, and the nearest real name of a misspelt one.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(part) for part in error.errors())) from None
    except ValueError as error:  # a taxonomist.toml that is not TOML
        raise ConfigError(f"taxonomist.toml cannot be read: {error}.") from None


def _explain(part: object) -> str:
    assert isinstance(part, dict)
    name = ".".join(str(step) for step in part["loc"])
    if part["type"] == "extra_forbidden":
        near = process.extractOne(name, Settings.model_fields.keys(), score_cutoff=60)
        return f"There is no setting '{name}'" + (f", did you mean '{near[0]}'?" if near else ".")
    secret = "SecretStr" in str(Settings.model_fields[name].annotation) if name in Settings.model_fields else True
    seen = "" if secret or "@" in str(part["input"]) else f" (seen: {part['input']!r})"
    return f"Setting '{name}': {part['msg']}{seen}"
