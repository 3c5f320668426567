"""The hardware and what is counted on it."""
