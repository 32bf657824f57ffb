"""`taxonomist status`, and the overview of a project: what a home holds, what waits for a person, what is served.

Nothing is changed.
"""

from taxonomist.backend.status.collect import collect_status
from taxonomist.backend.status.lines import status_lines
from taxonomist.backend.status.needs import Need, NeedKind
from taxonomist.backend.status.overview import Overview, ProjectRow, collect_overview, collect_projects
from taxonomist.backend.status.values import HomeStatus, ProjectStatus

__all__ = [
    "HomeStatus",
    "Need",
    "NeedKind",
    "Overview",
    "ProjectRow",
    "ProjectStatus",
    "collect_overview",
    "collect_projects",
    "collect_status",
    "status_lines",
]
