"""HTTP: the dashboard pages, their data, and labels."""
