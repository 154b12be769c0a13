"""What every other room leans on: errors, files, names, params, paths; the facts of git, DVC, GitHub."""
