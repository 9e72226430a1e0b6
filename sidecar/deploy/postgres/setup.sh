#!/bin/sh
# Run after every start, once the sidecar serves: brings the extension to the installed version, and loads the served
# model's taxonomy. Harmless to repeat. Where the database is, and the password, stand in PGSERVICEFILE.
set -eu
psql --no-psqlrc -v ON_ERROR_STOP=1 --quiet <<'SQL'
alter extension pg_motive update;
select motive.grant_worker('motive_worker');
select motive.load_model();
SQL
