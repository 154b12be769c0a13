"""Pure functions over arrays: bootstrap, calibration, classification, ranking, stability."""
