#!/bin/sh
# Makes the passwords that docker-compose.yml reads as files, in ./secrets; what is there already stays. And lets the
# containers read what they mount of the clone, which may have been made with a umask that leaves others nothing.
set -eu
cd "$(dirname "$0")/../.."
umask 077
mkdir -p secrets
make() {
    [ -s "secrets/$1" ] || od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "secrets/$1"
}
make postgres_password
make worker_password
make grafana_password
[ -s secrets/worker_dsn ] || printf 'host=postgres dbname=motive user=motive_worker password=%s application_name=pg_motive' \
    "$(cat secrets/worker_password)" > secrets/worker_dsn
# The owner's connection, as libpq reads it (PGSERVICEFILE): a password in a variable would be seen by docker inspect.
[ -s secrets/owner_service ] || printf '[owner]\nhost=postgres\ndbname=motive\nuser=postgres\npassword=%s\n' \
    "$(cat secrets/postgres_password)" > secrets/owner_service
# Each container reads its own under another user; the directory itself is closed to others.
chmod 444 secrets/*
chmod -R a+rX sidecar/deploy/prometheus sidecar/deploy/grafana
echo "secrets/ holds $(find secrets -type f | wc -l) files; Grafana's user is admin, its password in secrets/grafana_password"
