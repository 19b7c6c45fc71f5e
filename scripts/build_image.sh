#!/bin/sh
# Build the container image from the wheel of this tree. Layers get the time of the last commit, so that the same commit
# and base give the same image with a builder that knows SOURCE_DATE_EPOCH (BuildKit 0.13, podman 5).
set -eu
cd "$(dirname "$0")/.."
for builder in podman docker; do
  command -v "$builder" >/dev/null && "$builder" info >/dev/null 2>&1 && break
  builder=
done
if [ -z "$builder" ]; then
  echo 'no container builder answers here: install podman, or start docker' >&2
  exit 2
fi
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
rm -rf build/dist
.venv/bin/python -m hatchling build -t wheel -d build/dist
"$builder" build --build-arg SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" ${BASE:+--build-arg "BASE=$BASE"} --tag wcp-attest --file Containerfile .
