"""One setting moves the catalogue to Cosmos DB; `taxonomist cosmos install` makes what it needs there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

import emulators
from taxonomist.backend.azure.accounts import cosmos_access, retry_policy
from taxonomist.backend.services import Services
from taxonomist.backend.settings import Settings
from taxonomist.storage.catalog import SqliteCatalog
from taxonomist.storage.catalog.cosmos import CosmosCatalog
from taxonomist.taxonomy.errors import ConfigError

TEXT = SecretStr("AccountEndpoint=https://a.documents.azure.com:443/;AccountKey=c2VjcmV0;")


def test_settings_say_how_cosmos_is_reached(settings: Settings) -> None:
    by_string = cosmos_access(settings.model_copy(update={"cosmos_connection_string": TEXT}))
    assert (by_string.key, by_string.database, by_string.containers) == ("c2VjcmV0", "taxonomist", ("images",))
    by_address = {"cosmos_endpoint": "https://a.documents.azure.com", "cosmos_containers": ["a", "b"]}
    access = cosmos_access(settings.model_copy(update=by_address))
    assert (access.endpoint, access.key, access.containers) == ("https://a.documents.azure.com", None, ("a", "b"))
    with pytest.raises(ConfigError, match="set twice"):
        cosmos_access(settings.model_copy(update={**by_address, "cosmos_connection_string": TEXT}))
    assert retry_policy(settings.model_copy(update={"azure_timeout": 7.0})).total_s == 7.0


def test_without_a_setting_the_catalogue_is_a_file(services: Services, settings: Settings) -> None:
    assert isinstance(services.catalog, SqliteCatalog)
    with pytest.raises(ConfigError, match="TAXONOMIST_COSMOS_CONNECTION_STRING"):
        cosmos_access(settings)


@pytest.mark.slow
def test_install_and_use(cosmos_server: emulators.Cosmos, settings: Settings, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "TAXONOMIST_HOME": str(settings.home),
        "TAXONOMIST_COSMOS_CONNECTION_STRING": cosmos_server.connection_string,
        "TAXONOMIST_COSMOS_DATABASE": uuid4().hex,
    }

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", *command], env=environment, cwd=tmp_path, capture_output=True, text=True
        )

    install = ("-m", "taxonomist", "cosmos", "install")
    missing = run("-c", USE)
    assert "taxonomist cosmos install" in missing.stderr
    first, again = run(*install), run(*install, "--json")
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert len([line for line in first.stdout.splitlines() if line.endswith(": created")]) == 3
    assert all(line.endswith(": exists") for line in json.loads(again.stdout))
    used = run("-c", USE)
    assert (used.stdout, used.stderr, used.returncode) == ("1\n", "", 0)
    wrong = run("-c", USE.replace("load_settings()", "load_settings(cosmos_connection_string='x')"))
    assert "AccountEndpoint" in wrong.stderr


USE = """
from taxonomist.backend.services import Services
from taxonomist.backend.settings import load_settings

catalog = Services(load_settings()).catalog
catalog.update("a", lambda document: document)
print(catalog.count())
"""


def test_the_catalogue_of_the_settings(settings: Settings) -> None:
    with_cosmos = settings.model_copy(update={"cosmos_endpoint": "https://a.documents.azure.com"})
    assert isinstance(Services(with_cosmos).catalog, CosmosCatalog)
