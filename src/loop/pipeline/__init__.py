"""The DVC stages ingest, validate, features, train and evaluate, one module each; none calls a server."""
