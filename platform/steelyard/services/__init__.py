"""Use cases: each reads the facts, asks a rule, and writes the outcome in one transaction."""
