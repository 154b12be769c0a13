"""Changes what an environment serves, always by a commit: release, promote or roll back."""
