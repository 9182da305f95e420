"""mlx_lm.server and its kin: OpenAI's protocol with a few fields they refuse or misread."""

from collections.abc import Mapping
from typing import ClassVar

from gateway.backends.base import BACKENDS
from gateway.backends.openai_compatible import OpenAICompatible


@BACKENDS.register("mlx")
class Mlx(OpenAICompatible):
    """Speaks to MLX on a Mac, or to its CPU build."""

    schemes: ClassVar[tuple[str, ...]] = ("mlx",)
    renames: ClassVar[Mapping[str, str]] = {"max_completion_tokens": "max_tokens"}
    developer_role: ClassVar[bytes] = b'"system"'
