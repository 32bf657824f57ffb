from __future__ import annotations

import pytest

from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.taxonomy.errors import (
    ConfigError,
)

ACCOUNT = "https://images.blob.core.windows.net"


@pytest.mark.parametrize("text", ["", "AccountName=a", "SharedAccessSignature=sv=1;BlobEndpoint=https://a", "nonsense"])
def test_a_connection_string_without_a_key_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="AccountKey"):
        BlobAccount.from_connection_string(text)


def test_connection_strings_of_the_portal() -> None:
    text = "DefaultEndpointsProtocol=https;AccountName=images;AccountKey=aa==;EndpointSuffix=core.windows.net"
    account = BlobAccount.from_connection_string(text)
    assert (account.url, account.account, account.key) == (ACCOUNT, "images", "aa==")
