#!/bin/sh
# Run after every start, once the sidecar serves: makes the database, the worker's role and the extension where they are
# missing, brings the extension to the installed version, and loads the served model's taxonomy. Repeated, it goes on where
# it was interrupted, and changes nothing else. Settings:
#   POSTGRES_DB           the database's name
#   PGSERVICEFILE         where the server is, with the owner's password; PGSERVICE is its name there
#   WORKER_PASSWORD_FILE  the worker's password
set -eu
sql() {
    psql --no-psqlrc -v ON_ERROR_STOP=1 --quiet --dbname "$1"
}

# psql reads the password itself: on its command line, every process could see it. Nor may the server log it.
sql postgres <<'SQL'
\getenv database POSTGRES_DB
\set password `cat "$WORKER_PASSWORD_FILE"`
select pg_catalog.format('create database %I', :'database')
where not exists (select from pg_catalog.pg_database where datname = :'database') \gexec
set log_statement = 'none';
set log_min_duration_statement = -1;
set log_min_error_statement = 'panic';
select pg_catalog.format('create role motive_worker login password %L', :'password')
where not exists (select from pg_catalog.pg_roles where rolname = 'motive_worker') \gexec
SQL

sql "${POSTGRES_DB}" <<'SQL'
create extension if not exists pg_motive cascade;
alter extension pg_motive update;
select motive.grant_worker('motive_worker');
select motive.load_model();
SQL
