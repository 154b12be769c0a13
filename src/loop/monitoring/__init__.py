"""Monitors production: drift, accuracy, the canary judge, and the dispatch of retrainings."""
