"""Smaller forms of a version: a technique a file, one signature for all."""
