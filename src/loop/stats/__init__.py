"""Statistics on arrays as pure functions: bootstrap, curves, metrics and stability."""
