# -- the dependencies, pinned and hashed; wheels only, so that no compiler is needed --------------
FROM python:3.11-slim AS build

RUN python -m venv /opt/gateway
COPY requirements.txt .
RUN /opt/gateway/bin/pip install --no-cache-dir --disable-pip-version-check \
      --require-hashes --only-binary :all: -r requirements.txt \
    && /opt/gateway/bin/pip uninstall --yes pip setuptools

# -- what runs ------------------------------------------------------------------------------------
FROM python:3.11-slim

RUN useradd --system --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin gateway \
    && install --directory --owner gateway --group gateway --mode 700 /data
COPY --from=build /opt/gateway /opt/gateway
WORKDIR /srv/gateway
COPY gunicorn.conf.py wsgi.py ./
COPY gateway ./gateway
RUN /opt/gateway/bin/python -m compileall -q gateway wsgi.py

ENV PATH=/opt/gateway/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    GATEWAY_HOST=0.0.0.0 \
    OBSERVABILITY_HOST=0.0.0.0 \
    DATA_DIR=/data

# By number, so that an orchestrator can see that it is not root.
USER 10001:10001
VOLUME /data
EXPOSE 8800 8801

# With http.client, because urllib would ask a proxy that the environment names.
HEALTHCHECK --interval=30s --timeout=10s --start-period=40s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ.get('OBSERVABILITY_PORT') or 8801), timeout=5); c.request('GET', '/health'); sys.exit(c.getresponse().status != 200)"]

# `docker run … config --check` and `docker run … demo` work too. Stop with: docker stop -t 40
ENTRYPOINT ["python", "-m", "gateway"]
CMD ["serve"]
