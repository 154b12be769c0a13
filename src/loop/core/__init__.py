"""What every other room leans on: errors, files, names, params, paths, and the facts of git, DVC and GitHub."""
