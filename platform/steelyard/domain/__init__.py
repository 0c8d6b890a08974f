"""The rules: pure functions on frozen values. Nothing here does I/O or reads a clock."""
