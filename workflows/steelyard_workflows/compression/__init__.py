"""Making one variant of one version: what is asked for, who makes it, how, and what it takes."""
