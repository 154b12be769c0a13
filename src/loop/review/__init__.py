"""The report on a pull request, which shows reviewers the effect of a change on models and cluster."""
