"""The WSGI application that gunicorn serves: ``gunicorn -c gunicorn.conf.py wsgi:app``."""

from gateway.app import create_app
from gateway.kernel.settings import read_environ
from gateway.settings import read_settings, settings_in_force

app = create_app(settings_in_force() or read_settings(read_environ()))
