"""A token count without a tokenizer, for upstreams that report none; always marked as estimated."""

_BYTES_A_TOKEN = 4
"""OpenAI's rule of thumb for English; other scripts use more bytes a token: the count is rough."""


def estimate(size_bytes: int) -> int:
    """Return about how many tokens a text of this many UTF-8 bytes has; at least 1 unless empty."""
    return -(-size_bytes // _BYTES_A_TOKEN)
