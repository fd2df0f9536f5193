# A CPU image, and on a base that has torch with CUDA one for GPUs:
#
#   docker build -t wash-bench .
#   docker build -t wash-bench:cuda --build-arg BASE=pytorch/pytorch:2.9.0-cuda12.8-cudnn9-runtime .
#   docker run --rm -v "$PWD:/work" wash-bench run digits
#   docker run --rm --gpus all --shm-size 8g -v "$PWD:/work" wash-bench:cuda run ...
#
# Where the base has no torch, pip takes its default build, which on Linux brings CUDA along; a
# build for CPUs alone is a fifth of that: --build-arg TORCH_INDEX=ADDRESS, the address of PyTorch's
# index of CPU builds.
ARG BASE=python:3.12-slim
FROM ${BASE}

ARG TORCH_INDEX=
COPY . /src
# No development files are left in the image; a torch that the base has is kept.
RUN if [ -n "$TORCH_INDEX" ]; then \
      pip install --no-cache-dir --index-url "$TORCH_INDEX" torch torchvision; fi \
 && pip install --no-cache-dir /src \
 && rm -rf /src

# Runs belong to who mounts the folder: docker run --user "$(id -u):$(id -g)".
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /work
ENTRYPOINT ["wash-bench"]
CMD ["--help"]
