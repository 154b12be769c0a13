"""What production says: drift, accuracy, the canary's judge, and the dispatch that retrains."""
