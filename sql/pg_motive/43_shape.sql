-- Functions are generated for each attachment, with static SQL so that PostgreSQL keeps their plans:
--   capture_N, recapture_N  triggers: enqueue what an insert, an update wrote; see only the statement's transition tables;
--              owned by the extension's owner
--   guard_N    trigger: sets columns of NEW; touches no table
--   inline_N   trigger: asks the sidecar and sets columns of NEW; owned by the extension's owner
--   read_N, scan_N, said_N, write_N  run SQL on the table, SECURITY DEFINER and owned by the TABLE's owner, so that
--              triggers and policies of the table have its owner's rights and never ours
-- What a table's owner could turn against us, and what stands against it:
--   names that end a quoted body         every body is passed as one quoted literal
--   a column of a type with a cast or a check of the owner's, in those and inline_N, which are ours: they look up the
--              columns' types in the catalog before they touch a value, and otherwise use output functions alone
--   ALTER FUNCTION on what he owns       each of the last four first makes sure, every name qualified, that it runs as him
--   deferred triggers, which would fire as whoever commits: the last four have them fire before they return
-- API: private
create type motive.result as (
    e bigint,   -- entry
    k jsonb,    -- key
    h bytea,    -- hash of the text as it was read
    m text[],   -- motives, best first; empty for abstention
    c real,     -- confidence
    x text,     -- why the row itself is at fault; then m and c are null
    f boolean   -- no further attempt can help
);
comment on type motive.result is 'What has been found out about one key of an entry';

-- API: private
create type motive.shape as (
    id integer,
    relation text,      -- the table, quoted and qualified
    owner oid,          -- its owner
    body text,          -- the text column, quoted
    motive text,        -- the annotation's columns, quoted
    confidence text,
    motives text,
    model text,
    hash text,
    match text,         -- t's key equals that of g.key
    key_list text,      -- t's key columns, for order by
    key_list_down text, -- the same, from the last row to the first
    key_after text,     -- t's key comes after that in the jsonb array `after`
    key_list_of_n text, -- n's
    key_of_t text,      -- t's key as a jsonb array of texts
    key_of_n text,      -- the same of n
    keys_of_n text,     -- all of n's keys as one jsonb array
    number_of_n text,   -- n's key where it is one integer, else null
    same_row text,      -- n's key equals o's
    key_by_output text,       -- key_of_n by output functions alone, whatever the types are
    same_row_by_output text,  -- same_row likewise
    first_key text,     -- of o: null where there is no old row
    key_names text,     -- of the key columns, as a list of literals
    key_count integer,
    as_attached text,   -- condition: tg_relid's text and key columns are there, of the types they have now
    written_types text, -- the same of the text and the five columns of the annotation
    settings text,      -- further settings of the functions
    pending text        -- condition under which a row of n still needs a worker
);
comment on type motive.shape is 'What the generated functions of an attachment are made of';

-- API: private
create function motive.shape_of(attachment integer) returns motive.shape
    language sql stable strict parallel safe
    set search_path to pg_catalog, pg_temp
as $$
    select a.id, a.target::text, c.relowner, quote_ident(a.text_column), r.motive, r.confidence, r.motives, r.model, r.hash,
           k.match, k.key_list, k.key_list_down, k.key_after, k.key_list_of_n, k.key_of_t, k.key_of_n, k.keys_of_n, k.number_of_n, k.same_row, k.key_by_output, k.same_row_by_output, k.first_key,
           k.names, k.count, k.types || ' and ' || b.there, r.types || ', ' || b.type,
           case when k.plain then '' else
               ' set datestyle to ''ISO'' set timezone to ''UTC'' set intervalstyle to ''postgres'''
               ' set extra_float_digits to 1 set bytea_output to ''hex''' end,
           -- What inline annotation could not do has no hash.
           'n.' || case a.mode when 'inline' then r.hash || ' is null and n.' else '' end || quote_ident(a.text_column) || ' is not null'
    from motive.attachment as a
    join pg_class as c on c.oid = a.target
    cross join lateral (
        select max(quote_ident(n.name)) filter (where n.role = 'motive') as motive,
               max(quote_ident(n.name)) filter (where n.role = 'confidence') as confidence,
               max(quote_ident(n.name)) filter (where n.role = 'motives') as motives,
               max(quote_ident(n.name)) filter (where n.role = 'model') as model,
               max(quote_ident(n.name)) filter (where n.role = 'hash') as hash,
               string_agg(format('(%L, %s::oid)', n.name, n.type::regtype::oid), ', ' order by n.role) as types
        from motive.annotation_columns(a.prefix) as n
    ) as r
    cross join lateral (
        select max(format('(%L, %s::oid)', t.attname, t.atttypid)) as type,
               max(format('exists (select from pg_attribute where attrelid = tg_relid and attname = %L and atttypid = %s)', t.attname, t.atttypid)) as there
        from pg_attribute as t where t.attrelid = a.target and t.attname = a.text_column and not t.attisdropped
    ) as b
    cross join lateral (
        -- The operators of the key's index: those of an extension's type stand in a schema off the search path.
        select string_agg(format('t.%1$I %4$s (g.key ->> %2$s)::%3$s', p.name, p.n - 1, p.type, by.equal), ' and ' order by p.n) as match,
               string_agg(format('t.%I', p.name), ', ' order by p.n) as key_list,
               string_agg(format('t.%I desc', p.name), ', ' order by p.n) as key_list_down,
               -- One operator for all columns makes one comparison of rows, which the index answers; else the first column
               -- bounds what is read.
               case when count(distinct by.above) = 1 then
                   format('(%s) %s (%s)', string_agg(format('t.%I', p.name), ', ' order by p.n), min(by.above),
                          string_agg(format('(after ->> %s)::%s', p.n - 1, p.type), ', ' order by p.n))
               else
                   min(format('t.%I %s (after ->> 0)::%s and ', p.name, by.not_below, p.type)) filter (where p.n = 1)
                   || string_agg(format(
                          case when p.n = p.columns then 't.%1$I %4$s (after ->> %2$s)::%3$s'
                               else '(t.%1$I %4$s (after ->> %2$s)::%3$s or (t.%1$I %5$s (after ->> %2$s)::%3$s and ' end,
                          p.name, p.n - 1, p.type, by.above, by.equal), '' order by p.n)
                   || repeat('))', count(*)::integer - 1) end as key_after,
               string_agg(format('n.%I', p.name), ', ' order by p.n) as key_list_of_n,
               -- Output functions, never casts: a cast of a user's type is the user's code.
               'jsonb_build_array(' || string_agg(format(case when p.plain then 't.%I::text' else 'format(''%%s'', t.%I)' end, p.name), ', ' order by p.n) || ')' as key_of_t,
               'jsonb_build_array(' || string_agg(format(case when p.plain then 'n.%I::text' else 'format(''%%s'', n.%I)' end, p.name), ', ' order by p.n) || ')' as key_of_n,
               -- Digits and hyphens need no escapes, so a string is quicker than a jsonb value for each row.
               case when bool_and(p.digits) then
                   '(''[["'' || string_agg(' || string_agg(format('n.%I::text', p.name), ' || ''","'' || ' order by p.n) || ', ''"],["'') || ''"]]'')::jsonb'
               else 'jsonb_agg(jsonb_build_array(' || string_agg(format(case when p.plain then 'n.%I::text' else 'format(''%%s'', n.%I)' end, p.name), ', ' order by p.n) || '))' end as keys_of_n,
               case when count(*) = 1 then min(format('n.%I::bigint', p.name)) filter (where (
                   select case t.typtype when 'd' then t.typbasetype else t.oid end in ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
                   from pg_type as t where t.oid = p.type_id)) end as number_of_n,
               string_agg(format(case when p.exact then 'n.%1$I = o.%1$I' else 'format(''%%s'', n.%1$I) = format(''%%s'', o.%1$I)' end, p.name), ' and ' order by p.n) as same_row,
               'jsonb_build_array(' || string_agg(format('format(''%%s'', n.%I)', p.name), ', ' order by p.n) || ')' as key_by_output,
               string_agg(format('format(''%%s'', n.%1$I) = format(''%%s'', o.%1$I)', p.name), ' and ' order by p.n) as same_row_by_output,
               min(format('o.%I', p.name)) filter (where p.n = 1) as first_key,
               string_agg(quote_literal(p.name), ', ' order by p.n) as names,
               string_agg(format('exists (select from pg_attribute where attrelid = tg_relid and attname = %L and atttypid = %s)', p.name, p.type_id), ' and ' order by p.n) as types,
               count(*)::integer as count,
               bool_and(p.plain) as plain
        from (select *, row_number() over () as n, count(*) over () as columns from motive.key_columns(a.target)) as p
        cross join lateral (
            select max(o.name) filter (where m.amopstrategy = 3) as equal,
                   max(o.name) filter (where m.amopstrategy = 4) as not_below,
                   max(o.name) filter (where m.amopstrategy = 5) as above
            from pg_index as i
            join pg_opclass as c on c.oid = i.indclass[p.n - 1]
            join pg_amop as m on m.amopfamily = c.opcfamily and m.amoplefttype = c.opcintype and m.amoprighttype = c.opcintype
            cross join lateral (
                select format('operator(%I.%s)', h.nspname, d.oprname) as name
                from pg_operator as d join pg_namespace as h on h.oid = d.oprnamespace where d.oid = m.amopopr
            ) as o
            where i.indrelid = a.target and i.indisprimary
        ) as by
    ) as k
    where a.id = shape_of.attachment
$$;
comment on function motive.shape_of(integer) is 'What the generated functions of an attachment are made of; null where the table is gone';
revoke all on function motive.shape_of(integer) from public;

