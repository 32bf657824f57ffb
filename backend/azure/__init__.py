"""Azure from the settings: Cosmos DB, Blob Storage, and jobs of Azure ML."""
