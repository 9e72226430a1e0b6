-- What operators and users look at. Each view shows only tables that its reader may SELECT; what tells of single rows
-- (keys, messages) only where row-level security hides none of them from the reader.

-- API: public
create view motive.attachments with (security_barrier) as
select a.target, a.text_column, a.mode, a.budget, a.on_failure, a.prefix, a.attached_at
from motive.attachment as a
where pg_catalog.has_table_privilege(a.target, 'SELECT');
comment on view motive.attachments is 'The annotated columns, with their options';
revoke all on motive.attachments from public;

-- API: public
create view motive.queue_depth with (security_barrier) as
select a.target, a.text_column,
       case q.priority when 1 then 'new' when 2 then 'backfill' else 'shadow' end as priority,
       coalesce(sum(coalesce(pg_catalog.cardinality(q.numbers), pg_catalog.jsonb_array_length(q.keys))) filter (where q.lease is null and q.ready_at <= pg_catalog.clock_timestamp()), 0) as waiting,
       coalesce(sum(coalesce(pg_catalog.cardinality(q.numbers), pg_catalog.jsonb_array_length(q.keys))) filter (where q.lease is not null and q.ready_at > pg_catalog.clock_timestamp()), 0) as claimed,
       coalesce(sum(coalesce(pg_catalog.cardinality(q.numbers), pg_catalog.jsonb_array_length(q.keys))) filter (where q.lease is not null and q.ready_at <= pg_catalog.clock_timestamp()), 0) as abandoned,
       coalesce(sum(coalesce(pg_catalog.cardinality(q.numbers), pg_catalog.jsonb_array_length(q.keys))) filter (where q.lease is null and q.ready_at > pg_catalog.clock_timestamp()), 0) as delayed,
       pg_catalog.clock_timestamp() - min(q.enqueued_at) as oldest
from motive.queue as q join motive.attachment as a on a.id = q.attachment
where pg_catalog.has_table_privilege(a.target, 'SELECT')
group by a.target, a.text_column, q.priority;
comment on view motive.queue_depth is 'Rows (keys) in the queue; abandoned: a worker died with them, the next one takes them';
revoke all on motive.queue_depth from public;

-- API: public
create view motive.failures with (security_barrier) as
select a.target, a.text_column, f.key, f.reason, f.attempts, f.failed_at
from motive.failure as f join motive.attachment as a on a.id = f.attachment
where pg_catalog.has_table_privilege(a.target, 'SELECT') and not pg_catalog.row_security_active(a.target);
comment on view motive.failures is 'Rows that were retired, with the reason; motive.retry() tries them again';
revoke all on motive.failures from public;

-- API: public
create view motive.freshness with (security_barrier) as
with counted as (
    select b.attachment, c.n, sum(c.rows) as rows
    from motive.freshness_bucket as b cross join lateral pg_catalog.unnest(b.counts) with ordinality as c (rows, n)
    where b.minute > pg_catalog.clock_timestamp() - interval '1 hour'
    group by b.attachment, c.n
), running as (
    select c.*, sum(c.rows) over (partition by c.attachment order by c.n) as so_far, sum(c.rows) over (partition by c.attachment) as total
    from counted as c
)
select a.target, a.text_column, max(r.total) as rows,
       pg_catalog.make_interval(secs => pg_catalog.power(2, min(r.n) filter (where r.so_far >= 0.50 * r.total) - 1) / 1000) as p50,
       pg_catalog.make_interval(secs => pg_catalog.power(2, min(r.n) filter (where r.so_far >= 0.95 * r.total) - 1) / 1000) as p95,
       pg_catalog.make_interval(secs => pg_catalog.power(2, min(r.n) filter (where r.so_far >= 0.99 * r.total) - 1) / 1000) as p99
from running as r join motive.attachment as a on a.id = r.attachment
where r.total > 0 and pg_catalog.has_table_privilege(a.target, 'SELECT')
group by a.target, a.text_column;
comment on view motive.freshness is 'Time from enqueue to write-back over the last hour: upper bounds, in powers of two of a millisecond';
revoke all on motive.freshness from public;

-- API: public
create view motive.jobs with (security_barrier) as
select a.target, a.text_column, j.kind, j.model, j.scanned, j.enqueued, j.estimate, j.started_at, j.stepped_at, j.finished_at,
       case when not pg_catalog.row_security_active(a.target) then j.problem end as problem
from motive.job as j join motive.attachment as a on a.id = j.attachment
where pg_catalog.has_table_privilege(a.target, 'SELECT');
comment on view motive.jobs is 'Backfills and their like, with how far they have come';
revoke all on motive.jobs from public;

-- API: private
create function motive.uncovered_partitions(attachment integer) returns regclass[]
    language sql stable strict parallel safe security definer
    set search_path to pg_catalog, pg_temp
as $$
    select array(
        select p.relid from motive.attachment as a cross join lateral pg_partition_tree(a.target) as p
        where a.id = uncovered_partitions.attachment and not exists (
            select from pg_trigger as t where t.tgrelid = p.relid and t.tgname = format('zzz_motive_%s_inserted', a.id) and t.tgenabled <> 'D')
        order by p.relid::text)
$$;
comment on function motive.uncovered_partitions(integer) is 'Partitions that came after attach: a statement straight on them enqueues nothing';
revoke all on function motive.uncovered_partitions(integer) from public;

-- API: public
create view motive.status with (security_barrier) as
select a.target, a.text_column, a.mode,
       coalesce(q.waiting, 0) as waiting, q.oldest,
       (select count(*) from motive.failure as f where f.attachment = a.id) as failed,
       (select pg_catalog.array_agg(j.kind order by j.id) from motive.job as j where j.attachment = a.id and j.finished_at is null) as jobs,
       motive.obstacle(a.id) as obstacle,
       motive.uncovered_partitions(a.id) as uncovered_partitions,
       (select max(pg_catalog.clock_timestamp() - s.xact_start) from pg_catalog.pg_stat_activity as s where s.backend_xmin is not null
        and s.pid <> pg_catalog.pg_backend_pid()) as oldest_transaction
from motive.attachment as a
left join lateral (
    select sum(coalesce(pg_catalog.cardinality(e.numbers), pg_catalog.jsonb_array_length(e.keys))) as waiting, pg_catalog.clock_timestamp() - min(e.enqueued_at) as oldest
    from motive.queue as e where e.attachment = a.id
) as q on true
where pg_catalog.has_table_privilege(a.target, 'SELECT');
comment on view motive.status is
    'One row for each annotated column: what waits, what failed, what stands in the way; a transaction open for long slows every claim';
revoke all on motive.status from public;
