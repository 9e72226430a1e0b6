-- API: private
create table motive.queue (
    id bigint generated always as identity primary key,
    attachment integer not null,
    keys jsonb,
    -- Keys of a table whose key is one integer: the statement that enqueues writes them as they are, and the claim turns
    -- them into the general form.
    numbers bigint[],
    priority smallint not null default 1 check (priority in (
        1,  -- rows just written: somebody may be waiting to see them
        2,  -- backfill and re-annotation: nobody waits
        3   -- shadow runs
    )),
    attempts smallint not null default 0,
    -- waiting: ready_at is past and lease may be null. claimed: lease is set and ready_at is the lease's end.
    -- waiting -> claimed (claim) -> gone (complete) or waiting (release, the lease's end, keys given back)
    ready_at timestamptz not null default clock_timestamp(),
    lease uuid,
    enqueued_at timestamptz not null default clock_timestamp(),
    shadow text,
    check ((keys is null) <> (numbers is null))
) with (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000, autovacuum_vacuum_insert_threshold = -1,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 20000, autovacuum_vacuum_cost_delay = 0
);
-- The keys of a thousand rows are 8 to 20 KB. Written as they are, or compressed by pglz, they would cost the user's
-- statement more than by lz4, which hardly any server is built without.
do $$
begin
    alter table motive.queue alter column keys set compression lz4, alter column numbers set compression lz4;
exception when feature_not_supported then
    alter table motive.queue alter column keys set storage external, alter column numbers set storage external;
end
$$;
-- No foreign key to motive.attachment: every statement on a user's table would lock the attachment's row.
comment on table motive.queue is 'Rows to annotate: an entry holds the keys of one statement, or a part of them';
comment on column motive.queue.keys is 'Array of primary keys, each an array of its columns'' values in text form';
comment on column motive.queue.numbers is 'Instead of keys, until the first claim: primary keys of one integer column';
comment on column motive.queue.priority is '1 rows just written, 2 backfill, 3 shadow';
comment on column motive.queue.attempts is 'How often its only key has failed through its own fault';
comment on column motive.queue.ready_at is 'When it may be claimed; while it is claimed, the end of the lease';
comment on column motive.queue.lease is 'Who holds it, or held it last';
comment on column motive.queue.enqueued_at is 'When the statement ran';
comment on column motive.queue.shadow is 'The model that a shadow run asks; null: the annotation itself';
revoke all on motive.queue from public;
create index queue_claimable on motive.queue (attachment, priority, ready_at);
create index queue_leased on motive.queue (lease) where lease is not null;
select pg_catalog.pg_extension_config_dump('motive.queue', '');
select pg_catalog.pg_extension_config_dump('motive.queue_id_seq', '');

-- API: private
create function motive.keys_of(keys jsonb, numbers bigint[]) returns jsonb
    language sql immutable parallel safe
    set search_path to pg_catalog, pg_temp
as $$ select coalesce(keys, ('[["' || array_to_string(numbers, '"],["') || '"]]')::jsonb) $$;
comment on function motive.keys_of(jsonb, bigint[]) is 'The keys of an entry, in the general form';
revoke all on function motive.keys_of(jsonb, bigint[]) from public;

-- API: private
create table motive.failure (
    attachment integer not null,
    key jsonb not null,
    hash bytea not null,
    reason text not null,
    attempts smallint not null,
    failed_at timestamptz not null default clock_timestamp(),
    primary key (attachment, key)
);
comment on table motive.failure is 'Rows retired because they themselves were at fault; motive.retry() tries them again';
comment on column motive.failure.key is 'The primary key''s values in text form';
comment on column motive.failure.hash is 'Hash of the text that failed: another text is another matter';
comment on column motive.failure.reason is 'What was wrong; never holds the text';
comment on column motive.failure.attempts is 'How often it was tried';
revoke all on motive.failure from public;
select pg_catalog.pg_extension_config_dump('motive.failure', '');

-- API: private
create table motive.annotation_settings (
    only_row boolean primary key default true check (only_row),
    max_attempts smallint not null default 5 check (max_attempts between 1 and 100),
    retry_delay interval not null default interval '10 s' check (retry_delay >= interval '0'),
    backfill_depth integer not null default 8 check (backfill_depth > 0)
);
comment on table motive.annotation_settings is 'One row: how the queue is worked off. Only the owner of the extension may write it';
comment on column motive.annotation_settings.max_attempts is 'After so many failures of its own a row is retired';
comment on column motive.annotation_settings.retry_delay is 'Wait before the second attempt; doubled for each further one';
comment on column motive.annotation_settings.backfill_depth is 'Backfill entries waiting per table, above which a backfill reads no further';
revoke all on motive.annotation_settings from public;
-- A restored dump brings its own row after CREATE EXTENSION has made the first.
-- API: private
create function motive.replace_annotation_settings() returns trigger
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
begin
    delete from motive.annotation_settings;
    return new;
end
$$;
comment on function motive.replace_annotation_settings() is 'Keeps motive.annotation_settings to one row';
revoke all on function motive.replace_annotation_settings() from public;
create trigger replace_annotation_settings before insert on motive.annotation_settings
    for each row execute function motive.replace_annotation_settings();
comment on trigger replace_annotation_settings on motive.annotation_settings is 'A new row replaces the old one';
insert into motive.annotation_settings default values;
select pg_catalog.pg_extension_config_dump('motive.annotation_settings', '');

-- Time from enqueue to write-back, counted per minute in buckets of powers of two from 1 ms: at most 60 minutes times
-- 8 slots for each attachment. Slots keep two workers from waiting for each other.
-- API: private
create table motive.freshness_bucket (
    attachment integer not null,
    minute timestamptz not null,
    slot smallint not null,
    counts bigint[] not null, -- element n, from 1: rows that took less than 2^(n-1) ms; the last: longer
    primary key (attachment, minute, slot)
) with (fillfactor = 50);
comment on table motive.freshness_bucket is 'Histogram of the time from enqueue to write-back, for one hour';
comment on column motive.freshness_bucket.counts is 'Rows by duration: element n counts those under 2^(n-1) ms';
revoke all on motive.freshness_bucket from public;
