"""The gateway with one more key, which may list models and nothing else.

Keys from the environment hold every scope, so a refusal for want of one needs a ring of our own.
"""

from gateway.app import create_app
from gateway.auth.guard import KeyGuard
from gateway.auth.keys import KeyRing, digest_of
from gateway.kernel.call import Principal
from gateway.kernel.settings import read_environ
from gateway.settings import read_settings
from gateway.web.endpoint import Guard
from gateway.web.services import provide
from tests.contract.running import KEY

app = create_app(read_settings(read_environ()))
_ring = KeyRing({digest_of(KEY): Principal("narrow", frozenset({"models"}))})
provide(app, KeyGuard(_ring, lambda code: None), Guard)
