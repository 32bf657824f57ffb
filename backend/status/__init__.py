"""`taxonomist status`: what a home holds, what waits for a person, and which models are served. Nothing is changed."""

from taxonomist.backend.status.collect import collect_status
from taxonomist.backend.status.lines import status_lines
from taxonomist.backend.status.values import HomeStatus, ProjectStatus

__all__ = ["HomeStatus", "ProjectStatus", "collect_status", "status_lines"]
