#!/bin/sh
# Puts the released model into the volume /models: built once, then kept. Run again after an upgrade, it releases the
# new model beside the old one, and the sidecars switch by themselves.
#   VARIANT   what motive model build derives: cpu-int8, cpu-fp32, gpu-fp16
#   BACKEND   what Triton runs it with: cpu, cuda, tensorrt, python; empty without Triton
set -eu
built="${MOTIVE_CACHE}/${VARIANT}"
rm -rf "${built}"
motive model build --variant "${VARIANT}" --to "${built}"
motive release "${built}" --to /models ${BACKEND:+--backend "${BACKEND}"}
rm -rf "${built}"
