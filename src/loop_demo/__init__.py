"""`make demo` plays the whole loop on one machine with the repository's own workflows, without a cluster."""
