#!/bin/sh
# Releases into the volume of models; the sidecars switch by themselves.
#   release.sh               the model of this image, once for each version of it; what the operator has released or rolled
#                            back to since the last time stays
#   release.sh --shipped     the model of this image, in any case
#   release.sh PATH          another model, as motive-train export wrote it
#   release.sh --rollback | --list | --prune
# Settings:
#   VARIANT   what motive model build derives: cpu-int8, cpu-fp32, gpu-fp16
#   BACKEND   what Triton runs it with: cpu, cuda, tensorrt, python; empty without Triton
#   SIDECAR   the sidecar to wait for, if any
#   WAIT_S    how many seconds to wait for it; empty for the default of motive release
#   DATABASE  connection string of the database that is to know the model, if any
set -eu
models=${MODELS:-/models}
built=${MOTIVE_CACHE}/${VARIANT}
shipped=${models}/shipped

# Runs a command that hears of the end: a shell passes no signal on, and as PID 1 takes none either. motive release sets
# the links back before it ends.
run() {
    "$@" &
    trap "kill $! && wait $!; exit 143" INT TERM
    wait $! || exit
}

# Derives the model at a path, or this image's own, and releases it.
release() {
    rm -rf "${built}"
    run motive model build "$@" --variant "${VARIANT}" --to "${built}"
    run motive release "${built}" --to "${models}" ${BACKEND:+--backend "${BACKEND}"} \
        ${SIDECAR:+--sidecar "${SIDECAR}"} ${WAIT_S:+--wait-s "${WAIT_S}"} ${DATABASE:+--dsn "${DATABASE}"}
    rm -rf "${built}"
}

# Every `docker compose up` asks. Releasing each time would undo the operator's release or rollback. Another variant or
# backend is for another engine, which may be unable to serve what is there.
is_to_stay() {
    [ -f "${shipped}" ] || return 1
    { read -r old_version && read -r old_kind && read -r old_release; } < "${shipped}" || return 1
    [ "${old_kind}" = "${kind}" ] || return 1
    if [ "${old_version}" = "${version}" ]; then
        echo "${version} was released here before: nothing is changed"
    elif [ "$(readlink "${models}/current")" != "${old_release}" ]; then
        echo "the operator's release stays; for that of this image: docker compose run --rm release --shipped"
    else
        return 1
    fi
}

case "${1:-}" in
"" | --shipped)
    program=$(motive --version)
    model=$(motive model show)
    version="${program}, $(printf '%s\n' "${model}" | head -n 1)"
    kind=${VARIANT}/${BACKEND}
    if [ -z "${1:-}" ] && is_to_stay; then
        exit 0
    fi
    release
    printf '%s\n' "${version}" "${kind}" "$(readlink "${models}/current")" > "${shipped}.draft"
    mv "${shipped}.draft" "${shipped}"
    ;;
-*)
    exec motive release --to "${models}" ${SIDECAR:+--sidecar "${SIDECAR}"} ${WAIT_S:+--wait-s "${WAIT_S}"} "$@"
    ;;
*)
    release "$1"
    ;;
esac
