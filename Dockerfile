# One gateway. Mount the config at /etc/gateway (gateway.yaml and what it includes); let it listen on 0.0.0.0,
# name a `redis.url`, and keep the spool on a volume at /var/lib/gateway.
FROM python:3.11-slim AS build
WORKDIR /src
COPY requirements/runtime.lock requirements/runtime.lock
RUN python -m venv /opt/gateway && /opt/gateway/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.lock
COPY pyproject.toml README.md LICENSE gateway.yaml ./
COPY config config
COPY gateway gateway
RUN /opt/gateway/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:3.11-slim
RUN useradd --system --home-dir /var/lib/gateway --create-home gateway
COPY --from=build /opt/gateway /opt/gateway
USER gateway
WORKDIR /var/lib/gateway
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s \
    CMD ["/opt/gateway/bin/python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8081/healthz', timeout=2)"]
ENTRYPOINT ["/opt/gateway/bin/gateway"]
CMD ["serve", "-c", "/etc/gateway/gateway.yaml"]
