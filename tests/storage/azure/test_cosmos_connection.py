from __future__ import annotations

import pytest

from taxonomist.storage.azure.cosmos_connection import CosmosAccess
from taxonomist.taxonomy.errors import ConfigError


def test_access_from_a_connection_string() -> None:
    text = "AccountEndpoint=https://a.documents.azure.com:443/;AccountKey=c2VjcmV0==;"
    access = CosmosAccess.from_connection_string(text, "db", ("images",))
    assert (access.endpoint, access.key) == ("https://a.documents.azure.com:443/", "c2VjcmV0==")
    assert "c2VjcmV0" not in repr(access)
    with pytest.raises(ConfigError, match="AccountKey"):
        CosmosAccess.from_connection_string("AccountEndpoint=https://a.documents.azure.com", "db", ("images",))
    with pytest.raises(ConfigError, match="at least one container"):
        CosmosAccess.from_connection_string(text, "db", ())
