"""Spine 4: the code that speaks to each kind of upstream."""
