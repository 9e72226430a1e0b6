-- What a worker shows to Prometheus: numbers and names of tables, never a text or a key.

-- API: private
create function motive.measures()
    returns table (measure text, target text, text_column text, part text, value float8)
    language sql volatile parallel unsafe security definer
    set search_path to pg_catalog, pg_temp
as $$
    select 'queue_rows', d.target::text, d.text_column::text, d.priority || '/' || s.state, s.rows::float8
    from motive.queue_depth as d cross join lateral (values
        ('waiting', d.waiting), ('claimed', d.claimed), ('abandoned', d.abandoned), ('delayed', d.delayed)) as s (state, rows)
    union all
    select 'queue_oldest_seconds', d.target::text, d.text_column::text, d.priority, extract(epoch from d.oldest)::float8
    from motive.queue_depth as d
    union all
    select 'failed_rows', s.target::text, s.text_column::text, null, s.failed::float8 from motive.status as s
    union all
    select 'uncovered_partitions', s.target::text, s.text_column::text, null, cardinality(s.uncovered_partitions)::float8
    from motive.status as s
    union all
    select 'blocked', s.target::text, s.text_column::text, null, (s.obstacle is not null)::integer::float8 from motive.status as s
    union all
    select 'freshness_seconds', f.target::text, f.text_column::text, q.quantile, extract(epoch from q.took)::float8
    from motive.freshness as f cross join lateral (values ('0.5', f.p50), ('0.95', f.p95), ('0.99', f.p99)) as q (quantile, took)
    union all
    select 'oldest_transaction_seconds', null, null, null, coalesce(max(extract(epoch from clock_timestamp() - a.xact_start)), 0)::float8
    from pg_stat_activity as a where a.backend_xmin is not null and a.pid <> pg_backend_pid()
$$;
comment on function motive.measures() is 'The queue and its annotations as numbers, for the worker''s metrics';
revoke all on function motive.measures() from public;
