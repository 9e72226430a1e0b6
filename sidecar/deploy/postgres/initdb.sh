#!/bin/sh
# Run once by the image's entrypoint, on an empty data directory: the extension and the worker's role.
set -eu
# psql reads the password itself: on its command line, every process could see it.
WORKER_PASSWORD_FILE=${SECRETS:-/run/secrets}/worker_password
export WORKER_PASSWORD_FILE
psql --no-psqlrc -v ON_ERROR_STOP=1 --quiet --username "${POSTGRES_USER}" --dbname "${POSTGRES_DB}" <<'SQL'
\set password `cat "$WORKER_PASSWORD_FILE"`
create extension pg_motive cascade;
create role motive_worker login password :'password';
select motive.grant_worker('motive_worker');
SQL
