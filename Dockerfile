# NexVar behind HTTP: docker build -t nexvar:cpu .      (docs/serving.md, "In a container")
#   CUDA:  docker build -t nexvar:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .
#          The wheel brings CUDA's libraries; the host brings the driver.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
ARG TORCH=torch>=2.6
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# hadolint ignore=DL3013
RUN python3 -m venv /opt/nexvar \
 && /opt/nexvar/bin/pip install ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} "${TORCH}"
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
# hadolint ignore=DL3013
RUN /opt/nexvar/bin/pip install '.[serve,mcp,plots,tracks]'

FROM ${BASE}
LABEL org.opencontainers.image.title="NexVar" \
      org.opencontainers.image.description="Genomic foundation models in plain PyTorch. Scores are research output, not a diagnosis." \
      org.opencontainers.image.licenses="Apache-2.0"
# A C compiler: products of few rows and the Mamba scan are built for the processor that they run on, on first use.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/* \
 && groupadd --gid 10001 nexvar \
 && useradd --uid 10001 --gid 10001 --home-dir /cache --no-create-home --shell /usr/sbin/nologin nexvar \
 && mkdir /cache \
 && chown nexvar:nexvar /cache
COPY --from=build /opt/nexvar /opt/nexvar
ENV PATH=/opt/nexvar/bin:$PATH \
    NEXVAR_CACHE=/cache/nexvar \
    XDG_CACHE_HOME=/cache \
    HF_HOME=/cache/huggingface \
    MPLCONFIGDIR=/tmp \
    PYTHONDONTWRITEBYTECODE=1
VOLUME /cache
WORKDIR /work
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s \
  CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/v1/health/ready', timeout=5)"]
ENTRYPOINT ["nexvar"]
CMD ["serve", "--host", "0.0.0.0"]
