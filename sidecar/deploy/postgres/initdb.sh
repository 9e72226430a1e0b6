#!/bin/sh
# Run once by the image's entrypoint, on an empty data directory: the extension and the worker's role.
set -eu
password=$(cat /run/secrets/worker_password)
psql --no-psqlrc -v ON_ERROR_STOP=1 -v password="${password}" --username "${POSTGRES_USER}" --dbname "${POSTGRES_DB}" <<'SQL'
create extension pg_motive cascade;
create role motive_worker login password :'password';
select motive.grant_worker('motive_worker');
SQL
