-- API: private
create table motive.settings (
    -- One row: a second one replaces it (see motive.replace_settings).
    only_row boolean primary key default true check (only_row),
    -- Where texts are sent. A table that the owner alone may write, never a configuration parameter: any role could
    -- SET one, and have texts sent, and requests made, to where it likes.
    target text not null default 'unix:/run/pg_motive/motive.sock' check (
        (target ~ '^unix:/[^[:cntrl:]]+$' and octet_length(target) <= 112)
        or target ~ '^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][A-Za-z0-9._-]*):[0-9]{1,5}$'
    ),
    deadline_ms integer not null default 5000 check (deadline_ms between 1 and 3600000),
    -- Files that PostgreSQL's operating-system user can read; without an authority no TLS.
    tls_authority text check (tls_authority ~ '^/'),
    tls_certificate text check (tls_certificate ~ '^/'),
    tls_key text check (tls_key ~ '^/'),
    token_file text check (token_file ~ '^/'),
    constraint tls_for_tcp_only check (tls_authority is null or target !~ '^unix:'),
    constraint tls_certificate_with_key check ((tls_certificate is null) = (tls_key is null)),
    constraint tls_certificate_with_authority check (tls_certificate is null or tls_authority is not null)
);
comment on table motive.settings is 'One row: how the functions reach the sidecar. Only the owner of the extension may read or write it';
comment on column motive.settings.only_row is 'Always true: there is one row';
comment on column motive.settings.target is 'unix:/full/path of the sidecar''s socket, or HOST:PORT';
comment on column motive.settings.deadline_ms is 'Milliseconds that one request may take; statement_timeout and transaction_timeout can only shorten it';
comment on column motive.settings.tls_authority is 'Path of the PEM file with the authority of the sidecar''s certificate; set it to use TLS';
comment on column motive.settings.tls_certificate is 'Path of the PEM file with our certificate, for mutual TLS';
comment on column motive.settings.tls_key is 'Path of the PEM file with the key of our certificate';
comment on column motive.settings.token_file is 'Path of the file with the token that the sidecar asks for; null for none';
revoke all on motive.settings from public;

-- Restoring a dump first creates the extension, with its row of defaults, and then inserts the row of the dump.
-- API: private
create function motive.replace_settings() returns trigger
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
begin
    delete from motive.settings;
    return new;
end
$$;
comment on function motive.replace_settings() is 'Keeps motive.settings to one row: a new row replaces the old one';
revoke all on function motive.replace_settings() from public;

-- API: private
create trigger replace_settings before insert on motive.settings
    for each row execute function motive.replace_settings();
comment on trigger replace_settings on motive.settings is 'A new row replaces the old one';

insert into motive.settings default values;
select pg_catalog.pg_extension_config_dump('motive.settings', '');

-- PostgreSQL 17 ends a session whose transaction takes longer than transaction_timeout; older ones do not know it.
-- API: private
create view motive.time_left as
select least(
    nullif(extract(epoch from current_setting('statement_timeout')::interval), 0)::float8
        - extract(epoch from clock_timestamp() - statement_timestamp())::float8,
    nullif(extract(epoch from nullif(current_setting('transaction_timeout', true), '')::interval), 0)::float8
        - extract(epoch from clock_timestamp() - transaction_timestamp())::float8
) as seconds;
comment on view motive.time_left is 'How many seconds the session''s own timeouts leave a statement; null where they set no end';
revoke all on motive.time_left from public;

-- What one call works with: the settings, and the time that the session's timeouts leave.
-- API: private
create view motive.call_terms as
select
    settings.target,
    case when settings.tls_authority is not null or settings.token_file is not null then
        array[coalesce(settings.tls_authority, ''), coalesce(settings.tls_certificate, ''), coalesce(settings.tls_key, ''),
              coalesce(settings.token_file, '')]
    end as files,
    greatest(0.001, least(settings.deadline_ms / 1000.0::float8, time_left.seconds)) as seconds
from motive.settings cross join motive.time_left;
comment on view motive.call_terms is 'Where a call goes and how many seconds it may take';
revoke all on motive.call_terms from public;
