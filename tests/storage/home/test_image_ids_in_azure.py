"""New ids of images whose documents are in Cosmos DB and whose embeddings are in Blob Storage."""

from __future__ import annotations

import tarfile
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from taxonomist.storage.azure.blob_account import BlobAccount
from taxonomist.storage.azure.cosmos_connection import CosmosAccess
from taxonomist.storage.catalog import ImageDocument, SqliteCatalog
from taxonomist.storage.catalog.cosmos import CosmosCatalog
from taxonomist.storage.catalog.image_ids import image_id
from taxonomist.storage.embeddings import FolderEmbeddings
from taxonomist.storage.embeddings.blob import BlobEmbeddings, rename_shared
from taxonomist.storage.home import image_ids
from taxonomist.storage.home.former_image_ids import former_image_id
from taxonomist.storage.home.old_home import SharedStores
from taxonomist.storage.home.version_file import home_version
from taxonomist.storage.home.versions import open_home
from tests.homes import DATA

SOFA = "https://acc.blob.core.windows.net/photos/sofa.jpg?sv=2021-01-01&sig=abc"
CHAIRS = [f"azure-blob://photos/chair #{number}.jpg" for number in (1, 2, 3)]


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_documents_and_embeddings_in_azure(
    cosmos_access: CosmosAccess,
    blob_account: BlobAccount,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    killed: bool,
) -> None:
    with tarfile.open(DATA / "home-0.1.0-merged.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    home, container = tmp_path / "home", uuid4().hex
    with SqliteCatalog(home / "catalog.sqlite") as local:
        former = {document.id: document.model_copy(update={"etag": None}) for document in local.documents()}
    (home / "catalog.sqlite").unlink()
    ids, vectors = FolderEmbeddings(home / "embeddings" / "v1", 48).snapshot()
    shared = BlobEmbeddings(blob_account, container, "embeddings/v1", tmp_path / "one", 48, share_every_s=0)
    shared.append(ids, vectors.astype(np.float32))
    shared.close()
    with CosmosCatalog(cosmos_access) as catalog:
        for document in former.values():
            catalog.put(document)
        catalog.put(ImageDocument(id="of-another-program", uri_orig="https://h/a.jpg"))
        stores = SharedStores(
            lambda: catalog, lambda names: rename_shared(blob_account, container, "embeddings", names)
        )
        if killed:
            with monkeypatch.context() as patched:
                patched.setattr(image_ids, "_rename_arrays", _die)
                with pytest.raises(KeyboardInterrupt):
                    open_home(home, stores)
            assert home_version(home) == 1
        open_home(home, stores)
        kept = {document.id: document for document in catalog.documents()}
    assert kept["of-another-program"].uri_orig == "https://h/a.jpg"
    chairs = former[former_image_id(CHAIRS[0])]
    for uri in CHAIRS:
        entry = kept[image_id(uri)].projects["7"]
        assert (entry.uri, entry.part, entry.group) == (uri, chairs.projects["7"].part, chairs.projects["7"].group)
    sofa = former[former_image_id(SOFA)]
    assert kept[image_id(SOFA)].projects == sofa.projects
    assert kept[image_id(SOFA)].file_hash == sofa.file_hash
    for old in (chairs, sofa):  # kept, outside all projects
        assert (kept[old.id].projects, kept[old.id].uri_orig) == ({}, None)
        assert (kept[old.id].model_extra or {})["moved_to"]
    # Another machine gets the embeddings under their new ids, and none that may be of another image.
    elsewhere = BlobEmbeddings(blob_account, container, "embeddings/v1", tmp_path / "other", 48, share_every_s=0)
    found, values = elsewhere.get([image_id(SOFA), *(image_id(uri) for uri in CHAIRS)])
    assert found.tolist() == [True, False, False, False]
    assert values[0, 0] == sorted(former).index(sofa.id)
    assert len(elsewhere) == len(ids)
    elsewhere.close()


def _die(*_: object) -> None:
    raise KeyboardInterrupt
