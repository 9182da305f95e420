"""Spine 3: which targets can answer a call, and why."""
