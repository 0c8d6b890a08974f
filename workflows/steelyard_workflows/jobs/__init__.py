"""Training on somebody else's Ray cluster, through its Jobs API."""
