"""Where things are kept. Each kind of thing has one protocol; most have a local and an Azure implementation.

Stores:

    catalog            image documents: SQLite, or Azure Cosmos DB
    images             the bytes of images: a folder, Label Studio, http(s), or Azure Blob Storage
    journal            the events of Label Studio's webhooks, and the state computed from them (SQLite)
    registry           versions of models, champion and previous: a folder, or Azure Blob Storage
    embeddings         embeddings of images: a folder, or a folder that is shared through Azure Blob Storage
    prepared_images    decoded images of one size, for pre-training

What the stores are made of:

    arrays             the append-only array store of embeddings and prepared images
    azure              clients for Azure, retry policy, background refresh
    network            every HTTP client: certificates, proxies, redirects
    sqlite             SQLite files that several threads and processes write
    files              atomic writes of files
    json_files         JSON files that contain one pydantic model
    formats            version numbers of files and databases
    fork_safety        locks and connections are made anew in a forked process
    event_loop_thread  an asyncio event loop in its own thread
"""
