"""All settings. `settings` has them, `fields` what their values may be, and `loading` reads and explains them."""

from taxonomist.backend.settings.fields import (
    Agreement,
    Annotators,
    Order,
    ProductField,
    Promotion,
    Share,
    TargetPrecision,
    WebAddress,
)
from taxonomist.backend.settings.loading import load_settings
from taxonomist.backend.settings.settings import LOOPBACK_HOSTS, Settings, needed_share

__all__ = [
    "LOOPBACK_HOSTS",
    "Agreement",
    "Annotators",
    "Order",
    "ProductField",
    "Promotion",
    "Settings",
    "Share",
    "TargetPrecision",
    "WebAddress",
    "load_settings",
    "needed_share",
]
