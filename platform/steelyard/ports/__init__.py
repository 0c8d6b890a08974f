"""What the rules need from the world, as small protocols. Each has a real adapter."""
