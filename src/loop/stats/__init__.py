"""Pure functions over arrays: bootstrap, calibration, ranking metrics."""
