"""All settings. A value is that of the environment (`TAXONOMIST_…`), else of `taxonomist.toml`, else the default."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import Field, SecretStr, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from taxonomist.backend.settings.fields import (
    Agreement,
    Annotators,
    ArchitectureName,
    CronSchedule,
    LogLevel,
    Networks,
    OptionalTexts,
    Order,
    ProductField,
    Promotion,
    ProxyAddress,
    SendableSecret,
    Share,
    TargetPrecision,
    Texts,
    WebAddress,
    WebAddresses,
)
from taxonomist.taxonomy.agreement import AgreementPolicy
from taxonomist.taxonomy.calibration import Promise
from taxonomist.training.backbones.architectures import TIMM, list_of_names
from taxonomist.training.pretraining.recipe import Precision

log = logging.getLogger(__name__)

REMOVED = {
    "link_minutes": "browsers get thumbnails of ours in place of links to images in Azure; remove it",
    "pretrain_skip_test": "products of the test part never take part in a pre-training; remove it",
}
"""Settings of earlier releases, each with the reason; they are accepted and change nothing."""

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


def needed_share(agreement: Agreement, share: float | None) -> float | None:
    """Return the share of annotators that a label needs, None for more than half."""
    return None if share is None and agreement == "majority" else share or 2 / 3


class Settings(BaseSettings):
    """The settings of the product. docs/reference/settings.md is made from this class."""

    model_config = SettingsConfigDict(
        env_prefix="TAXONOMIST_",
        toml_file="taxonomist.toml",
        extra="forbid",
        env_ignore_empty=True,
        defer_build=True,  # `--help` needs no validators
    )

    # Where state lives
    home: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("taxonomist"), description="Folder that holds all state"
    )
    images_folder: Path | None = Field(
        None, description="Folder from which images are read whose address in a task is a plain file name"
    )

    # The server
    host: str = Field("127.0.0.1", description="Address to listen on; every address but loopback needs a password")
    port: int = Field(9090, ge=1, le=65535, description="Port to listen on")
    threads: int = Field(8, ge=1, description="Predictions that the server answers at once")
    public_url: WebAddress | None = Field(
        None, description="Address at which Label Studio reaches the server; unset: http://host:port"
    )
    browser_url: WebAddress | None = Field(
        None, description="Address at which browsers reach the look-alike page; unset: public_url"
    )
    allowed_hosts: Texts = Field(
        [],
        description="Names by which the server may be called, besides those in public_url and browser_url: host or "
        "*.suffix",
    )
    username: str = Field("taxonomist", description="User name for basic authentication")
    password: SendableSecret | None = Field(
        None,
        description="Password for basic authentication; unset: made once and kept in the home folder, and programs on "
        "this machine need none for projects that `connect` has not given it to",
    )
    look_alike_key_days: int = Field(
        90, ge=14, le=3650, description="Days for which the key in the address of a look-alike page is valid"
    )
    webhook_secret: SecretStr | None = Field(
        None, description="Value of the secret header of webhooks; unset: made once and kept in the home folder"
    )
    allow_no_password: bool = Field(
        False, description="Serve every caller without a password, since something else guards the server"
    )
    trusted_proxies: Networks = Field(
        [],
        description="Addresses or networks of reverse proxies whose forwarding headers count, such as 127.0.0.1 or "
        "10.0.0.0/8",
    )
    log_level: LogLevel = Field(
        "INFO",
        description="Least severe messages that are logged; unset: commands other than serve and worker log from "
        "WARNING on",
    )

    # Label Studio
    label_studio_url: WebAddress | None = Field(None, description="Address of Label Studio")
    label_studio_addresses: WebAddresses = Field(
        [],
        description="Further addresses of the same Label Studio that tasks may have, besides the one by which it calls "
        "itself",
    )
    leads: Texts = Field(
        [],
        description="E-mail addresses of those who lead projects, as in Label Studio; unset: its creator leads it",
    )
    label_studio_api_key: SecretStr | None = Field(
        None, description="Personal access token or legacy token of a Label Studio user"
    )
    sync_every: int = Field(
        3600,
        ge=0,
        description="Seconds between synchronisations with Label Studio, which find missed webhooks; 0 turns them off",
    )
    push_predictions: bool = Field(
        True, description="After a promotion, store the new model's suggestions for tasks without annotations"
    )

    # Images
    allowed_image_hosts: Texts = Field(
        [],
        description="Hosts besides Label Studio from which images may be fetched: host, host:port or *.suffix",
    )
    image_proxy: ProxyAddress | None = Field(
        None,
        description="Proxy for images that are not on Label Studio's host, such as http://user:password@proxy:3128; "
        "only hosts that allowed_image_hosts names in full are read through it, those in NO_PROXY are read directly",
    )
    max_image_bytes: int = Field(50_000_000, ge=1, description="Largest image file that is read, in bytes")
    max_image_pixels: int = Field(50_000_000, ge=1, description="Largest image that is decoded, in pixels")
    image_timeout: float = Field(20.0, gt=0, description="Seconds after which the download of one image fails")
    image_cache_bytes: int = Field(2_000_000_000, ge=0, description="Size of the cache of fetched images, in bytes")
    allow_private: bool = Field(
        False,
        description="Show images with faces or personal data as look-alikes, and copy them for pre-training",
    )

    # Products, and which annotations become accepted labels
    product_field: ProductField | None = Field(
        None,
        description="Field of a task that names its product or service report (sku), or a pattern of the file name "
        "({product}_*.jpg, {product}/*); unset: near-duplicates count as one product",
    )
    min_annotators: Annotators = Field(2, description="Number of annotators that must name a path")
    agreement: Agreement = Field(
        "two_thirds",
        description="How annotators agree: two_thirds of them name a path; majority, more than half do; dawid_skene, "
        "each is weighed by how often they are right, and the path has a probability of 0.9",
    )
    min_agreement: Share | None = Field(
        None,
        description="Share of an image's annotators that must name a path, in place of that of two_thirds or majority; "
        "0.67 is more than two of three",
    )
    require_review: bool = Field(False, description="Accept only annotations that were reviewed or are ground truth")
    skips_as: OptionalTexts = Field(
        None, description="Taxonomy path that a skipped task votes for, level by level; unset: no vote"
    )

    # Backbone and head
    backbone: ArchitectureName = Field(
        "efficientnet_lite0",
        description=f"Architecture of the first backbone and, where it is set, of pre-trainings: {list_of_names()}, or "
        f"{TIMM}NAME",
    )
    backbone_weights: str = Field(
        "auto",
        description="Start weights of the first backbone: auto (the starter, which ships; random for another "
        "architecture), starter, imagenet (torchvision's, which are downloaded; efficientnet_lite0 has the starter's), "
        "random or a file",
    )
    image_size: int | None = Field(
        None,
        ge=32,
        le=1024,
        description="Side of the square to which images are resized, in pixels; unset: the backbone's own, which "
        "is 160 for the starter",
    )
    views: int = Field(4, ge=0, le=32, description="Number of augmented views of each labelled image that are embedded")
    imbalance: Literal["none", "oversample", "weights"] = Field(
        "oversample", description="How training treats rare classes"
    )
    head: Literal["lda", "mlp", "ensemble"] = Field(
        "lda",
        description="Classifier head: lda, linear discriminant analysis with one promise for the whole tree; mlp, two "
        "layers that are trained in epochs; or ensemble, lda together with five of mlp",
    )
    head_hidden: int = Field(256, ge=8, description="Width of the head's hidden layer")
    head_epochs: int = Field(
        30,
        ge=1,
        description="Maximum number of epochs of a head's training, which stops early by itself",
    )
    test_share: float = Field(
        0.2, gt=0, lt=0.9, description="Share of labelled images that are kept for testing, which compares versions"
    )
    validation_share: float = Field(
        0.2, gt=0, lt=0.9, description="Share of the other labelled images that early stopping and calibration use"
    )
    seed: int = Field(0, ge=0, description="Seed of every random choice")

    # Pre-training of the backbone
    pretrain_schedule: CronSchedule | None = Field(
        None,
        description='When to pre-train, as cron writes it, in local time: "0 1 * * 6" is Saturdays at one; '
        "unset: only by command",
    )
    pretrain_min_new: int = Field(
        1000, ge=0, description="Number of images that no pre-training has seen, below which a scheduled one is skipped"
    )
    pretrain_preset: str = Field("default", description="Recipe of a pre-training, see `taxonomist pretrain --help`")
    pretrain_weights: str | None = Field(
        None,
        description="Start weights of a pre-training: champion (the backbone that is served), imagenet, starter, "
        "random or a file; unset: the recipe's, see `taxonomist pretrain --help`",
    )
    pretrain_device: Literal["auto", "cuda", "cpu"] = Field("auto", description="Device of the pre-training")
    pretrain_precision: Precision = Field(
        "auto",
        description="Number format of the pre-training: 32, or bf16 (bfloat16 where it is safe); auto measures "
        "which one suits the machine, so that the same seed may give another backbone another time",
    )
    pretrain_skip_blurred: bool = Field(True, description="Pre-train without images that are marked as blurred")
    pretrain_skip_sorted_out: bool = Field(True, description="Pre-train without images that were sorted out")

    # When to train and what to suggest
    retrain_after: float = Field(
        120.0, ge=0, description="Seconds without a new annotation after which a retraining starts"
    )
    retrain_every: int = Field(50, ge=1, description="Number of newly accepted labels that start a retraining at once")
    promotion: Promotion = Field(
        "auto", description="auto: a version that is not clearly worse is served at once; manual: a person promotes it"
    )
    target_precision: TargetPrecision = Field(
        0.9, description="Precision that suggestions must reach; levels below it are not suggested"
    )
    promise: Promise | None = Field(
        None,
        description="How the heads lda and ensemble keep that precision. sure: with confidence for each version; "
        "average: on average over many versions, which takes fewer labels; unset: average below "
        "200 / (1 - target_precision) labels that calibrate, sure from there on",
    )
    blind_share: float = Field(
        0.05,
        ge=0,
        le=1,
        description="Share of tasks that get no suggestion from a model: how their annotators answer shows what "
        "suggestions are worth",
    )
    labelling_order: Order = Field(
        "none",
        description="What annotators label next. none: as Label Studio is set; diverse: typical images first, then "
        "products of which the fewest images are labelled, by the score of the predictions",
    )
    random_share: Share = Field(
        0.33,
        description="Share of the images that are drawn at random beside an order; they alone calibrate suggestions",
    )
    neighbours: int = Field(
        8, ge=1, le=100, description="Number of look-alikes that are shown, and that vote while there is no model"
    )
    predict_deadline: float = Field(
        80.0, gt=0, description="Seconds after which the remaining tasks of a prediction request are left to the worker"
    )

    # Azure; without a key or a connection string by Entra ID
    azure_timeout: float = Field(
        60.0, gt=0, description="Seconds that one call to Azure may take, with all its retries"
    )
    cosmos_connection_string: SecretStr | None = Field(
        None, description="Moves the catalogue to Azure Cosmos DB: its connection string"
    )
    cosmos_endpoint: WebAddress | None = Field(
        None, description="Moves the catalogue to Azure Cosmos DB: its address; without cosmos_key by Entra ID"
    )
    cosmos_key: SecretStr | None = Field(None, description="Key of that Cosmos DB")
    cosmos_database: str = Field("taxonomist", description="Database in Cosmos DB")
    cosmos_containers: Texts = Field(
        ["images"], description="Containers with image documents; new documents go into the first"
    )
    blob_connection_string: SecretStr | None = Field(
        None, description="Storage account with images: its connection string"
    )
    blob_account_url: WebAddress | None = Field(
        None, description="Storage account with images: its address; access by Entra ID"
    )
    blob_containers: Texts = Field([], description="Containers from which images are read; empty: all of the account")
    models_container: str | None = Field(
        None, description="Moves models and embeddings to this container of the storage account"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_removed(cls, values: Any) -> Any:
        for name in REMOVED.keys() & values.keys():
            log.warning("The setting %s has no effect any more: %s", name, REMOVED[name])
        return {name: value for name, value in values.items() if name not in REMOVED}

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
        """The address at which Label Studio and browsers reach the server, without a trailing slash."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"

    @property
    def page_url(self) -> str:
        """The address at which browsers reach our pages, without a trailing slash."""
        return self.browser_url or self.url

    @property
    def agreement_policy(self) -> AgreementPolicy:
        """The rule by which annotations become an accepted label."""
        return AgreementPolicy(
            min_annotators=self.min_annotators,
            min_agreement=needed_share(self.agreement, self.min_agreement),
            require_review=self.require_review,
            skips_as=tuple(self.skips_as) if self.skips_as else None,
        )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return self.host in LOOPBACK_HOSTS or self.host.startswith("127.")
