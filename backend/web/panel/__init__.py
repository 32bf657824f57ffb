"""The panel in Label Studio's labelling screen: its page, its thumbnails, its script and style, and what it counts."""

from taxonomist.backend.web.panel.pages import panel_files, panel_pages

__all__ = ["panel_files", "panel_pages"]
