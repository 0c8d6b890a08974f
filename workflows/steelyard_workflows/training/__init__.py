"""What happens on Ray: attempts, the loop of a worker, checkpoints, limits."""
