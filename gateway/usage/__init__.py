"""Spine 5: what a request cost and how it went."""
