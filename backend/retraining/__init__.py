"""Training jobs: a new head for a project, and what follows a promotion."""
