"""Export of a version for programs that do not have this project: `export_model` writes the folder."""
