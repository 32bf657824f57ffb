"""Forgetting: what only a project, or an image that nothing uses, has kept goes, on this machine and in Azure."""
