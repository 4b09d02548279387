# The gateway with the embedded composition, CPU build. For a GPU node:
#   docker build --build-arg BASE=nvidia/cuda:13.0.1-runtime-ubuntu24.04 --build-arg COE_BUILD=cuda .
ARG BASE=debian:trixie-slim
FROM ${BASE}

ARG COE_BUILD=cpu
ENV COE_BUILD=${COE_BUILD} COE_STATE=/var/lib/coe PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1

# On CUDA vLLM, torch and triton compile kernels at run time, hence the compiler. On CPU vLLM's kernels need libnuma.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates curl g++ libc6-dev libnuma1 python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

# Nothing here needs rights: the gateway runs as a user of its own. What it keeps is in /var/lib/coe alone.
RUN useradd --create-home --uid 10001 --user-group coe && install --directory --owner coe --group coe /opt/coe /var/lib/coe
USER 10001:10001
WORKDIR /opt/coe
COPY --chown=10001:10001 . .
RUN scripts/install && .venv/bin/coe experts prepare --config configs/embedded.yaml

VOLUME /var/lib/coe
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10m --retries=3 \
    CMD ["curl", "--fail", "--silent", "--output", "/dev/null", "http://127.0.0.1:8000/ready"]
ENTRYPOINT ["scripts/serve", "--host", "0.0.0.0"]
