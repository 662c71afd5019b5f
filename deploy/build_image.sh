#!/usr/bin/env bash
# Builds an image of the Dockerfile with docker, podman or buildah, whichever is found first.
#
#   TARGET               the Dockerfile's target (default: cpu); the image is called cleave:TARGET
#   CONTAINER_TOOL       another tool, or one with options of its own, as "podman --storage-driver vfs"
#   PIP_INDEX_URL        the package index, and
#   PIP_EXTRA_INDEX_URL  the index of torch's builds for processors (defaults: the public ones, as in the Dockerfile)
#
# Arguments are passed on to the tool: `deploy/build_image.sh --network host`.
set -euo pipefail
cd "$(dirname "$0")/.."

read -ra tool <<<"${CONTAINER_TOOL:-$(basename "$(command -v docker podman buildah | head -n 1)")}"
if ((!${#tool[@]})); then
    echo 'deploy/build_image.sh: expected docker, podman or buildah, got none of them; install one' >&2
    exit 2
fi
target=${TARGET:-cpu}
options=(--target "$target" --tag "cleave:$target")
# Given but empty counts: it says that there is no such index.
for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL; do
    if [[ -v $name ]]; then
        options+=(--build-arg "$name=${!name}")
    fi
done
if [[ ${tool[0]##*/} != docker ]]; then
    # Files get the time of the last commit, so that two builds are equal; only docker's format has a health check.
    options+=(--format docker --timestamp "$(git log -1 --format=%ct)")
fi
exec "${tool[@]}" build "${options[@]}" "$@" .
