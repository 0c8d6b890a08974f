"""The data plane: the edge, the Ray Serve replicas behind it, and what they meter."""
