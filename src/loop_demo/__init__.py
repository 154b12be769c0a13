"""`make demo`: the whole circle on one machine, with the repository's own workflows, and no cluster."""
