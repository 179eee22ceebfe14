# DepthRank in a container. On a CPU, and on NVIDIA GPUs by a base image that has its own torch, which is kept:
#
#   docker build -t depthrank .
#   docker build -t depthrank:gpu --build-arg BASE=pytorch/pytorch:2.6.0-cuda12.4-cudnn9-runtime .
#   docker run --rm --user "$(id -u):$(id -g)" --shm-size 2g -v "$PWD:/data" depthrank train --config recipe.yaml
#
# Build arguments: BASE an image with Python 3.11 or newer and pip; TORCH_INDEX the package index that has the torch
# wanted, where BASE has none (PyTorch's own index for the CPU saves gigabytes); EXTRAS of the project, such as s3,onnx.
# docs/docker.md says how to train, stop and go on.

ARG BASE=python:3.12-slim
FROM ${BASE}

ARG TORCH_INDEX=
ARG EXTRAS=
ENV PIP_BREAK_SYSTEM_PACKAGES=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

WORKDIR /opt/depthrank
COPY launch/docker/install.sh launch/docker/install.sh
RUN sh launch/docker/install.sh torch
# What is needed changes seldom, the program often: the first layer is kept where only the second changes.
COPY pyproject.toml ./
RUN sh launch/docker/install.sh requirements
COPY LICENSE README.md ./
COPY model model
COPY shards shards
COPY pipeline pipeline
COPY launch launch
COPY configs configs
RUN sh launch/docker/install.sh program

# Whoever runs it, also by --user: nothing of the image is written, and what is kept goes to the mounted folder.
RUN useradd --uid 10001 --no-create-home --home-dir /data depthrank && mkdir /data && chown depthrank /data
ENV HOME=/data \
    TORCH_HOME=/data/.cache/torch \
    USER=depthrank \
    XDG_CACHE_HOME=/data/.cache
USER 10001
WORKDIR /data
ENTRYPOINT ["depthrank"]
CMD ["--help"]
