"""Functions that tests run in separate processes, which are killed or run out of disk.

Use: `python -m tests.storage.workers NAME ARGUMENT ...`.

Each prints a line for what it was promised to be kept, after the promise.
"""

import os
import resource
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from taxonomist.storage.embeddings import FolderEmbeddings
from taxonomist.storage.journal import AnnotationSaved, Journal
from taxonomist.storage.registry.folder import FolderRegistry
from taxonomist.taxonomy.errors import StorageError

START = datetime(2026, 1, 1, tzinfo=UTC)


def annotation(number: int) -> AnnotationSaved:
    at = START + timedelta(seconds=number)
    return AnnotationSaved(
        "4", "4.1795531934", f"a{number}", f"t{number}", f"/data/upload/4/{number}.jpg", at, at, {"n": number}
    )


def say(text: object) -> None:
    os.write(1, f"{text}\n".encode())


def limit_files(size: str) -> None:
    """Limit the size of files to `size` bytes: for one process this is a full disk, and needs no root."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(size), int(size)))


def vector(number: int) -> NDArray[Any]:
    return np.random.default_rng(number).standard_normal(64).astype(np.float32)


def record_for_ever(path: str, threads: str) -> None:
    journal = Journal(path)

    def work(first: int) -> None:
        for number in range(first, 1_000_000, int(threads)):
            journal.record([annotation(number)])
            say(number)

    for first in range(int(threads)):
        threading.Thread(target=work, args=(first,)).start()


def record_some(path: str, first: str, last: str) -> None:
    with Journal(path) as journal:
        say(sum(journal.record([annotation(number)]) for number in range(int(first), int(last))))


def record_until_full(path: str, size: str) -> None:
    if int(size):
        limit_files(size)
    with Journal(path) as journal:
        number = 0
        try:
            while True:
                journal.record([annotation(number)])
                say(number)
                number += 1
        except StorageError as error:
            say(f"refused: {error}")


def fold(path: str) -> None:
    with Journal(path) as journal:
        journal.fold()


def record_over_a_fork(path: str) -> None:
    with Journal(path) as journal:
        journal.record([annotation(1)])
        if (child := os.fork()) == 0:
            journal.record([annotation(2)])
            os._exit(0)
        journal.record([annotation(3)])
        os.waitpid(child, 0)
        say(journal.pending())


def embed_for_ever(folder: str) -> None:
    store = FolderEmbeddings(folder, 64)
    for start in range(0, 1_000_000, 7):
        numbers = range(start, start + 7)
        store.append([f"i{number}" for number in numbers], np.stack([vector(number) for number in numbers]))
        say(start)


def embed_some(folder: str, first: str, last: str) -> None:
    store = FolderEmbeddings(folder, 64)
    say(sum(store.append([f"i{n}"], vector(n)[None]) for n in range(int(first), int(last))))


def embed_until_full(folder: str, size: str) -> None:
    limit_files(size)
    store = FolderEmbeddings(folder, 64)
    number = 0
    try:
        while True:
            store.append([f"i{number}"], vector(number)[None])
            say(number)
            number += 1
    except StorageError as error:
        say(f"refused: {error}")


def publish_for_ever(root: str) -> None:
    registry = FolderRegistry(root)
    while True:
        with registry.stage("project-4") as staged:
            for file in range(4):
                (staged / f"{file}.safetensors").write_bytes(bytes([file]) * 200_000)
            version = registry.publish("project-4", staged, {"kind": "head"})
        registry.promote("project-4", version.version)
        say(version.version)


def promote_together_for_ever(root: str) -> None:
    """Three names, each with the versions v1 and v2; the two sets take turns."""
    registry = FolderRegistry(root)
    while True:
        for version in ("v2", "v1"):
            registry.promote_together(dict.fromkeys(("backbone", "project-4", "project-5"), version))
            say(version)


def publish_some(root: str, count: str) -> None:
    registry = FolderRegistry(root)
    for number in range(int(count)):
        with registry.stage("project-4") as staged:
            (staged / "head.safetensors").write_bytes(f"{os.getpid()} {number}".encode())
            say(registry.publish("project-4", staged, {"writer": f"{os.getpid()} {number}"}).version)


def publish_when_full(root: str, size: str) -> None:
    limit_files(size)
    registry = FolderRegistry(root)
    with registry.stage("project-4") as staged:
        try:
            (staged / "head.safetensors").write_bytes(b"x" * (int(size) - 10))
            registry.publish("project-4", staged, {"long": "x" * int(size)})
        except StorageError as error:
            say(f"refused: {error}")


def cache_when_full(folder: str, size: str) -> None:
    from taxonomist.storage.images.cache import CachedImages

    class Inner:
        def read(self, uri: str) -> bytes:
            return b"x" * (int(size) + 1)

    limit_files(size)
    images = CachedImages(Inner(), folder, 10_000_000)
    say(len(images.read("http://h/a.jpg")))
    say(len(images.read("http://h/a.jpg")))
    say([path.name for path in Path(folder).rglob("*") if path.is_file()])


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
