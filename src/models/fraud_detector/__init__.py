"""fraud-detector: scores card transactions of the Fraud Detection Handbook's simulator."""
