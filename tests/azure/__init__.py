"""Azure Blob Storage and Cosmos DB on loopback, and a proxy that provokes faults on the way to them."""
