"""Commands of CI that check and register a trained model before its release, such as gate and register."""
