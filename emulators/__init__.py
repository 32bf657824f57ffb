"""Azure Blob Storage and Cosmos DB on this machine, for tests and benchmarks: Azurite and @vercel/cosmosdb-server.

`install` fetches them from npm, `blob` and `cosmos` start them on free ports of 127.0.0.1, with keys made for the run.
"""

from emulators.packages import PACKAGES, install
from emulators.servers import ACCOUNT, Blob, Cosmos, blob, cosmos, free_port

__all__ = ["ACCOUNT", "PACKAGES", "Blob", "Cosmos", "blob", "cosmos", "free_port", "install"]
