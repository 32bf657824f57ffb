"""The routes of the console, by subject. `console_pages` has them all."""

from taxonomist.backend.web.console.pages.console import console_pages, wants_page
from taxonomist.backend.web.console.pages.refusals import refusal_page

__all__ = ["console_pages", "refusal_page", "wants_page"]
