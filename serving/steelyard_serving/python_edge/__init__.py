"""The edge without HAProxy: the same rules in Python, for systems that have no binary of it."""
