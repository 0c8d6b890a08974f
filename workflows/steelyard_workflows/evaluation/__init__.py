"""Evidence about a version: quality on held-out rows and speed, beside its parent, and where."""
