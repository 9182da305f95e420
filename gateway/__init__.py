"""Nexus Gateway: one OpenAI-compatible door in front of all the AI a team runs."""

__version__ = "0.1.0"
