"""Statistics on arrays as pure functions: bootstrap, calibration, classification, metrics and stability."""
