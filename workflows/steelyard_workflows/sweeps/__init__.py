"""Sweeps: runs of one workflow with drawn values, under Ray Tune; the best is registered."""
