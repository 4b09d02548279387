# The gateway with the embedded composition, CPU build. For a GPU node:
#   docker build --build-arg BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04 --build-arg COE_BUILD=cuda .
# scripts/check_image builds it without Docker, starts it and asks it.
ARG BASE=debian:trixie-slim

# Installs, and prepares the embedded composition. What only that needs stays here.
# hadolint ignore=DL3006
FROM ${BASE} AS installed
ARG COE_BUILD=cpu
ARG COE_PYTHON=python3
ENV COE_BUILD=${COE_BUILD} COE_STATE=/var/lib/coe PIP_NO_CACHE_DIR=1
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libnuma1 python3 python3-venv \
    && if [ "${COE_BUILD}" = cuda ]; then apt-get install -y --no-install-recommends g++ libc6-dev python3-dev; fi \
    && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 10001 --user-group coe && install --directory --owner coe --group coe /opt/coe /var/lib/coe
USER 10001:10001
WORKDIR /opt/coe
COPY --chown=10001:10001 . .
RUN scripts/install && .venv/bin/coe experts prepare --config configs/embedded.yaml

# Serves. On CPU there is no compiler in it: vLLM's kernels need libnuma alone. On CUDA vLLM, torch and triton compile
# kernels at run time.
# hadolint ignore=DL3006
FROM ${BASE}
ARG COE_BUILD=cpu
ENV COE_BUILD=${COE_BUILD} COE_STATE=/var/lib/coe PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HF_HOME=/var/lib/coe/huggingface XDG_CACHE_HOME=/var/lib/coe/cache XDG_CONFIG_HOME=/var/lib/coe/config
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates libnuma1 python3 \
    && if [ "${COE_BUILD}" = cuda ]; then apt-get install -y --no-install-recommends g++ libc6-dev python3-dev; fi \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 --user-group coe
# Nothing here needs rights: the gateway runs as a user of its own. What it keeps is in /var/lib/coe alone.
COPY --from=installed --chown=10001:10001 /opt/coe /opt/coe
COPY --from=installed --chown=10001:10001 /var/lib/coe /var/lib/coe
USER 10001:10001
WORKDIR /opt/coe
VOLUME /var/lib/coe
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD [".venv/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
ENTRYPOINT ["scripts/serve", "--host", "0.0.0.0"]
