"""Micro benchmark: processor time of gateways per request and per chunk, side by side.

Not a latency test under the stated load (that is what the profiles of `loadtests` are for): here
the upstream is instant, so that what is left is the gateway's own share.
"""
