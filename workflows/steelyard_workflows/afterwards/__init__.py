"""After training: further evaluation, variants with their gates, the start of a rollout.

All of it rests on a registered version, so that it can be made again without training again.
"""
