"""One static site that tells how every model is: from the last run, and from Git."""
