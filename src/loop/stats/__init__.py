"""Pure functions over arrays: bootstrap, calibration, classification, metrics, stability."""
