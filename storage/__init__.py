"""Where things are kept. Each kind of thing has one protocol, with a local and an Azure implementation.

catalog            image documents: SQLite, or Azure Cosmos DB
images             the bytes of images: a folder, Label Studio, http(s), or Azure Blob Storage
journal            the webhooks of Label Studio, and the state that they add up to (SQLite)
registry           versions of models, champion and previous: a folder, or Azure Blob Storage
embeddings         embeddings of images: a folder, shared through Azure Blob Storage if wanted
prepared_images    decoded images of one size, for pre-training
arrays             the append-only array store below embeddings and prepared images
azure              what the Azure implementations share: clients, retry policy, background refresh, signed links

fork_safety        locks and connections are made anew in a forked process
event_loop_thread  an asyncio event loop in its own thread
"""
