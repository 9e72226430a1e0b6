-- API: private
create table motive.version (
    version text primary key,
    installed_at timestamptz not null default clock_timestamp()
);
comment on table motive.version is 'Which version of pg_motive this database holds: the newest row; there is no extension to say so';
revoke all on motive.version from public;
