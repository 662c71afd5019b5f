#!/usr/bin/env bash
# What a container runs: builds the models that are not there yet, then serves them.
#
#   CLEAVE_MODELS  what to serve, as "append vista"; a model that is not of the zoo with its source, as
#                  "shop=/models/shop.py:ranker"
#   CLEAVE_BUILD   further options of `cleave build`, as "--target tensorrt --precision float16"
#   CLEAVE_SERVE   further options of `cleave serve`, as "--config-name tensorrt"
#
# Where one of the last two is empty, the image's CLEAVE_DEFAULT_BUILD or CLEAVE_DEFAULT_SERVE stands for it.
# With arguments, these are run instead: `docker run IMAGE cleave inspect append`.
set -euo pipefail

if (($#)); then
    exec "$@"
fi
if [[ -z ${CLEAVE_MODELS:-} ]]; then
    echo 'CLEAVE_MODELS: expected models to serve, as "append vista", got none; set it' >&2
    exit 2
fi
repository=model_repository
read -ra models <<<"$CLEAVE_MODELS"
read -ra build_options <<<"${CLEAVE_BUILD:-${CLEAVE_DEFAULT_BUILD:-}}"
read -ra serve_options <<<"${CLEAVE_SERVE:-${CLEAVE_DEFAULT_SERVE:-}}"
for model in "${models[@]}"; do
    if [[ ${model%%=*} == *[:/.]* ]]; then
        echo "CLEAVE_MODELS: expected the name of a model before its source, got $model; write NAME=$model" >&2
        exit 2
    fi
done

# A build puts all parts of a model in place, each with its manifest. One that was killed meanwhile left some without.
is_built() {
    local part folder
    for part in "" _uncached _whole _history_encoder _candidate_scorer _summary_cache; do
        folder=$repository/$1$part
        if [[ ! -e $folder/1/manifest.json && (-z $part || -e $folder) ]]; then
            return 1
        fi
    done
}

build_what_is_missing() (
    flock 9 # containers that share a volume build one after the other, and the second finds everything there
    for model in "${models[@]}"; do
        is_built "${model%%=*}" || cleave build "${model#*=}" --out "$repository" "${build_options[@]}"
    done
) 9>.build.lock

# As a container's first process, bash would leave a signal unanswered until the build is done.
set -m
build_what_is_missing &
trap 'kill -- -$!' TERM INT
wait $!
trap - TERM INT

# Refuses what is there but altered, of another TensorRT or for another GPU, and says how to build it anew.
exec cleave serve "${models[@]%%=*}" --repository "$repository" --container --host 0.0.0.0 "${serve_options[@]}"
