# syntax=docker/dockerfile:1
# meshproxy in a container: the sidecar, its CA and all commands, as a user without any privilege.
#
#   docker build -t meshproxy .
#   docker run -v $PWD/conf:/etc/meshproxy:ro -v state:/var/lib/meshproxy --read-only --cap-drop ALL meshproxy
#
# It runs /etc/meshproxy/sidecar.toml; keep what is written (identities, audit logs) below /var/lib/meshproxy, the admin
# socket in /run/meshproxy, a join token in /tokens: a new volume takes the owner of what it is mounted over. Two services
# with their sidecars and a CA: examples/compose.

FROM python:3.12.8-slim-bookworm AS builder
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
# Every package by its hash, nothing built from source; the image gets those of them that a running sidecar needs.
RUN pip wheel --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: \
        --requirement requirements.lock --wheel-dir /wheels \
    && pip install --no-cache-dir --disable-pip-version-check --no-index --find-links /wheels hatchling editables
COPY ca ca
COPY meshproxy meshproxy
RUN pip wheel --no-cache-dir --disable-pip-version-check --no-index --no-deps --no-build-isolation \
        --wheel-dir /wheels .

FROM python:3.12.8-slim-bookworm
RUN --mount=type=bind,from=builder,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-compile --disable-pip-version-check --root-user-action=ignore \
        --no-index --find-links /wheels meshproxy \
    && python -m compileall -q /usr/local/lib/python3.12/site-packages/meshproxy /usr/local/lib/python3.12/site-packages/ca \
    && groupadd --system --gid 65532 meshproxy \
    && useradd --system --uid 65532 --gid 65532 --home-dir /var/lib/meshproxy --shell /usr/sbin/nologin meshproxy \
    && install -d -o meshproxy -g meshproxy -m 0700 /var/lib/meshproxy /run/meshproxy /tokens \
    && install -d -m 0755 /etc/meshproxy
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /var/lib/meshproxy
# It drains on SIGTERM; give it longer than its drain_timeout (docker stop --time, stop_grace_period).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=20s --retries=3 \
    CMD ["meshproxy", "status", "/etc/meshproxy/sidecar.toml"]
ENTRYPOINT ["meshproxy"]
CMD ["run", "/etc/meshproxy/sidecar.toml"]
