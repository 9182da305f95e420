"""The WSGI application that gunicorn serves: ``gunicorn -c gunicorn.conf.py wsgi:app``."""

from gateway.app import create_app
from gateway.kernel.settings import read_environ
from gateway.settings import read_settings

app = create_app(read_settings(read_environ()))
