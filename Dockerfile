# syntax=docker/dockerfile:1
# The server: `gpu` on NVIDIA's Triton with TensorRT, `cpu` on the Triton of the wheel nvidia-pytriton.
#
#     docker build --target gpu --tag cleave:gpu .      # or, with store and dashboard: deploy/compose.yaml
#     make image                                        # `cpu`, by docker, podman or buildah
#
# What is pinned for the server is pinned here, and for `cpu` each package with its hash in deploy/lock (`make lock`).

# Triton 2.71.0, CUDA 13.3, TensorRT 11.1.0.106 by its release notes; the build stops if it holds another TensorRT.
ARG TRITON_TAG=26.07-py3
# A tag may move, what "sha256:..." names does not: `docker buildx imagetools inspect nvcr.io/nvidia/tritonserver:TAG`.
ARG TRITON_DIGEST=""
# As above, "3.11.14-slim-bookworm@sha256:..." does not move.
ARG PYTHON_TAG=3.11.14-slim-bookworm
# pip reads these two by themselves. The second has the torch that is built for processors alone; "" is none.
ARG PIP_INDEX_URL=https://pypi.org/simple
ARG PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
# What wheels carry as their time, so that two builds are equal; where it is set, bytecode is kept with the hash of its
# source in place of the time.
ARG SOURCE_DATE_EPOCH=315532800

# The wheel, and the list of what it needs. The list seldom changes, and as long as it does not, the layers that install
# it are kept.
FROM python:${PYTHON_TAG} AS wheel
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL SOURCE_DATE_EPOCH
COPY deploy/lock/build.txt /lock/build.txt
RUN pip install --no-cache-dir --require-hashes --requirement /lock/build.txt
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    print(*project['dependencies'], *project['optional-dependencies']['commands'], sep='\n')" > /requirements.txt
COPY cleave cleave
COPY builders builders
COPY clients clients
COPY perf perf
COPY serving serving
# A wheel keeps the permissions of its files, and they differ from one checkout to the next.
RUN chmod -R u=rwX,go=rX . && pip wheel --no-cache-dir --no-build-isolation --no-deps --wheel-dir /wheels .


FROM nvcr.io/nvidia/tritonserver:${TRITON_TAG}${TRITON_DIGEST:+@${TRITON_DIGEST}} AS gpu
ARG TENSORRT_VERSION=11.1.0.106
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL
# Without pip, as the image has no ensurepip; the image's pip brings one.
RUN python3 -m venv --without-pip /opt/cleave
# torch exports models and needs no GPU for it: the build for processors is smaller by gigabytes.
RUN --mount=type=bind,from=wheel,source=/requirements.txt,target=/requirements.txt \
    --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/cleave/bin/python install pip --requirement /requirements.txt
# The Python module alone. Its library is the image's, so that what builds a plan is what loads it.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip --python /opt/cleave/bin/python install --no-deps \
    "tensorrt-cu13==${TENSORRT_VERSION}" "tensorrt-cu13-bindings==${TENSORRT_VERSION}"
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    python3 -m pip --python /opt/cleave/bin/python install --no-cache-dir --no-deps /wheels/*.whl
# What is pinned, what builds plans, and what Triton loads them with.
RUN /opt/cleave/bin/python -c "import sys, tensorrt; from cleave.serving.server.engines import installed_tensorrt; \
    versions = '${TENSORRT_VERSION}', tensorrt.__version__, installed_tensorrt(); \
    sys.exit(len(set(versions)) > 1 and f'TensorRT: expected one version, got {versions}; change TENSORRT_VERSION')"
COPY deploy/entrypoint.sh /usr/local/bin/cleave-entrypoint
COPY deploy/healthcheck.sh /usr/local/bin/cleave-healthcheck
# 1000 is `triton-server`, the image's own user. All that a server keeps is in its folder: mount a volume there.
RUN install --directory --owner=1000 --group=1000 /var/lib/cleave
ENV PATH=/opt/cleave/bin:${PATH} \
    HOME=/var/lib/cleave \
    CLEAVE_DEFAULT_BUILD="--target tensorrt --precision float16 --timing-cache .cleave/timing.cache" \
    CLEAVE_DEFAULT_SERVE="--config-name tensorrt"
USER 1000:1000
WORKDIR /var/lib/cleave
# Models to build into the image, as "append vista", and not at the first start. Only for GPUs of the kind that this
# step sees: `podman build --device nvidia.com/gpu=all` shows it one, a plain `docker build` does not.
ARG BUILT_MODELS=""
# hadolint ignore=SC2086
RUN for model in ${BUILT_MODELS}; do cleave build "$model" --out model_repository ${CLEAVE_DEFAULT_BUILD} || exit 1; done
EXPOSE 8000 8001 8002
# A first start builds engines; that takes minutes for each model.
HEALTHCHECK --start-period=1h --interval=10s \
    CMD ["cleave-healthcheck"]
ENTRYPOINT ["cleave-entrypoint"]


FROM python:${PYTHON_TAG} AS cpu
ARG PIP_INDEX_URL PIP_EXTRA_INDEX_URL SOURCE_DATE_EPOCH
# Bytecode has sets in it: their order follows the seed.
ARG PYTHONHASHSEED=0
RUN --mount=type=bind,source=deploy/lock/cpu.txt,target=/requirements.txt \
    --mount=type=cache,target=/root/.cache/pip \
    pip install --require-hashes --requirement /requirements.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-deps /wheels/*.whl
COPY deploy/entrypoint.sh /usr/local/bin/cleave-entrypoint
COPY deploy/healthcheck.sh /usr/local/bin/cleave-healthcheck
RUN useradd --no-log-init --uid 1000 --home-dir /var/lib/cleave --create-home cleave
ENV HOME=/var/lib/cleave
USER 1000:1000
WORKDIR /var/lib/cleave
EXPOSE 8000 8001 8002
HEALTHCHECK --start-period=1h --interval=10s \
    CMD ["cleave-healthcheck"]
ENTRYPOINT ["cleave-entrypoint"]
