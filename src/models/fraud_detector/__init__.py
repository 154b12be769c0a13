"""fraud-detector: scores card transactions, on the Fraud Detection Handbook's simulated world."""
