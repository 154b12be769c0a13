"""The static site about all models, made from the files of the last run and from Git's history."""
