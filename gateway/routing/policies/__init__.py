"""Routing policies, one file each, found by the registry."""
