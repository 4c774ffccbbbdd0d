"""The page of one run: what its folder holds (`record`), its findings, figures and provenance."""
