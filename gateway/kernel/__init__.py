"""Leaves that know nothing of HTTP servers, databases or upstreams."""
