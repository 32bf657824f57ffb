"""Finds the version that is not served yet: one that waits, and one whose training was killed before its promotion."""

from taxonomist.storage.registry import ModelVersion, Registry


def newest_candidate(registry: Registry, name: str) -> ModelVersion | None:
    """Return the newest version of the name if it is not the one that is served."""
    versions = registry.versions(name)
    return versions[-1] if versions and versions[-1].version != registry.champion(name) else None


def unfinished_promotion(registry: Registry, name: str) -> ModelVersion | None:
    """Return the newest version of the name if it won its comparison, and its training ended before it was promoted.

    Return None if a version of the name was promoted or rolled back after that comparison.
    """
    versions = registry.versions(name)
    promotion = versions[-1].head_manifest.promotion if versions else None
    if promotion is None or not promotion.promoted or promotion.aliases is None:
        return None
    return versions[-1] if promotion.aliases == aliases_digest(registry, name) else None


def aliases_digest(registry: Registry, name: str) -> str:
    """Return a text that changes exactly when a version of the name is promoted or rolled back."""
    return repr(registry.alias_stamp(name))
