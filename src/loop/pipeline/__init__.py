"""The DVC stages, one module each: ingest, validate, features, train, evaluate. No server is called."""
