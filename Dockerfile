# One gateway, and the sandbox (`gateway sandbox`) too. It starts from deploy/gateway.yaml, which asks the environment for
# what differs from place to place; mount a config of your own over /etc/gateway. What it writes is in /var/lib/gateway
# alone, so the root may be read-only. docs/operating/deploy.md says more.
ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /src
COPY requirements/runtime.lock requirements/runtime.lock
RUN python -m venv /opt/gateway \
    && /opt/gateway/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.lock
COPY pyproject.toml README.md LICENSE gateway.yaml ./
COPY config config
COPY gateway gateway
RUN /opt/gateway/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM python:${PYTHON}
RUN groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid gateway --home-dir /var/lib/gateway --no-create-home --shell /usr/sbin/nologin gateway \
    && install -d --owner gateway --group gateway --mode 0700 /var/lib/gateway
COPY --from=build /opt/gateway /opt/gateway
COPY deploy/gateway.yaml /etc/gateway/gateway.yaml
COPY config /etc/gateway/config
ENV PATH=/opt/gateway/bin:$PATH GATEWAY_CONFIG=/etc/gateway/gateway.yaml PYTHONDONTWRITEBYTECODE=1
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /var/lib/gateway
VOLUME /var/lib/gateway
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s CMD ["gateway", "health"]
ENTRYPOINT ["gateway"]
CMD ["serve"]
