"""Code that all other packages of `loop` use: errors, files, names, params, paths, Git, DVC and GitHub."""
