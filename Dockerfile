# By version and digest; Docker goes by the digest, which is that of the index of all platforms.
FROM python:3.11.15-slim-trixie@sha256:90744cff8f32887f075c47d747a173ff333e9e98801667af93c357fa9f5e28ff AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# Without pip of its own: what goes into the image is the packages alone.
RUN python -m venv --without-pip /opt/ingestd

# The packages change seldom, the code often: with the packages first they come from the cache.
# Wheels only: nothing is compiled, so neither stage needs a compiler.
COPY requirements.lock requirements-build.lock ./
# As the lock files stand: nothing is resolved, so a newer release on the index changes nothing.
RUN pip install --no-deps --require-hashes --only-binary :all: -r requirements-build.lock \
 && pip --python /opt/ingestd/bin/python install --no-deps --require-hashes --only-binary :all: -r requirements.lock

COPY pyproject.toml README.md LICENSE ./
COPY sql sql
COPY ingestd ingestd
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && pip --python /opt/ingestd/bin/python install --no-deps --no-index dist/*.whl \
 && pip --python /opt/ingestd/bin/python check


FROM python:3.11.15-slim-trixie@sha256:90744cff8f32887f075c47d747a173ff333e9e98801667af93c357fa9f5e28ff

# Fixed numbers, so that files mounted for it can be given to it. mosquitto has those of the image eclipse-mosquitto:
# `broker init` gives its files to that user.
RUN groupadd --system --gid 10001 ingestd \
 && useradd --system --uid 10001 --gid ingestd --no-create-home --home-dir /nonexistent ingestd \
 && groupadd --system --gid 1883 mosquitto \
 && useradd --system --uid 1883 --gid mosquitto --no-create-home --home-dir /nonexistent mosquitto \
 && install -d -o ingestd -g ingestd -m 700 /var/lib/ingestd

COPY --from=build /opt/ingestd /opt/ingestd

# Inside a container loopback reaches nobody, so the API needs tokens: `token add` writes the file, on a volume. (The
# linter takes the name of that file for a secret.)
# hadolint ignore=DL3064
ENV PATH=/opt/ingestd/bin:$PATH PYTHONUNBUFFERED=1 INGESTD_HTTP_HOST=0.0.0.0 INGESTD_TOKENS_FILE=/var/lib/ingestd/tokens
# By number, so that Kubernetes sees that it is not root.
USER 10001:10001
WORKDIR /
EXPOSE 8080

# It asks /readyz by the settings of this container: its port, and TLS if there is a certificate.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --start-interval=1s --retries=3 \
  CMD ["ingestd", "healthcheck"]

# ingestd commits what it holds, acknowledges it and leaves.
STOPSIGNAL SIGTERM
ENTRYPOINT ["ingestd"]
CMD ["run"]
