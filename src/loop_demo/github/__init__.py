"""A stand-in for GitHub: it runs the repository's workflows on one machine, without an account."""
