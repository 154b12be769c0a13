"""Code of the commands by which a team sets up its fork, checks it and upgrades it."""
