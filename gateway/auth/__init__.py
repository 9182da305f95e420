"""Spine 1: who is calling, and whether they may."""
