#!/usr/bin/env bash
# Whether the server of this container answers for all of its models; CLEAVE_PROBE has further options of `cleave probe`.
set -euo pipefail

read -ra models <<<"${CLEAVE_MODELS:-}"
read -ra options <<<"${CLEAVE_PROBE:-}"
exec cleave probe "${models[@]%%=*}" "${options[@]}"
