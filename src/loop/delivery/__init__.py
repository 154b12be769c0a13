"""Every change of production as a commit: release, promote, rollback."""
