-- API: private
create table motive.correction (
    id bigint generated always as identity primary key,
    attachment integer not null,
    key jsonb not null,
    hash bytea not null,
    motives text[] not null,
    -- A default that nobody may override: it is evaluated as the caller.
    corrected_by name not null default current_user,
    corrected_at timestamptz not null default clock_timestamp()
);
comment on table motive.correction is 'Who corrected which row to what, for the text with that hash; the label itself stands on the row';
revoke all on motive.correction from public;
select pg_catalog.pg_extension_config_dump('motive.correction', '');
select pg_catalog.pg_extension_config_dump('motive.correction_id_seq', '');
alter table motive.correction enable row level security;
create policy writers_add on motive.correction for insert
    with check (exists (select from motive.attachment as a where a.id = attachment and pg_catalog.has_any_column_privilege(a.target, 'UPDATE')));
comment on policy writers_add on motive.correction is 'Who may update the table may record a correction';

-- API: private
create function motive.normal_key(target regclass, key jsonb) returns jsonb
    language plpgsql stable parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    names constant name[] := array(select k.name from motive.key_columns(target) as k);
    parts constant jsonb := case jsonb_typeof(key)
        when 'array' then key
        when 'object' then (select jsonb_agg(key -> n.name::text order by n.place) from unnest(names) with ordinality as n (name, place))
        else jsonb_build_array(key)
    end;
    -- As jsonb the numbers 1e3 and 1000 are the same, as texts they are the keys of two rows.
    unclear constant name := (
        select k.name from motive.key_columns(target) with ordinality as k (name, type, type_id, plain, exact, digits, place)
        join pg_type as t on t.oid = k.type_id
        where t.typcategory = 'S' and jsonb_typeof(parts -> (k.place - 1)::integer) = 'number' limit 1);
begin
    if unclear is not null then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('%s is a number, and column %I of %s is a text', left(key::text, 200), unclear, target),
            hint = 'Give to_jsonb(the key), or write it in double quotes: ''"1000"''.';
    elsif key is null or jsonb_array_length(parts) <> cardinality(names) then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('%s is no key of %s', coalesce(left(key::text, 200), 'NULL'), target),
            hint = format('Its columns are %s: give to_jsonb(the value), or of several columns an array, in this order, or an object.', array_to_string(names, ', '));
    end if;
    return (select jsonb_agg(e.value order by e.place) from jsonb_array_elements_text(parts) with ordinality as e (value, place));
end
$$;
comment on function motive.normal_key(regclass, jsonb) is 'A key given as a value, an array or an object, in the form of the queue';
revoke all on function motive.normal_key(regclass, jsonb) from public;

-- API: private
create function motive.check_made(a motive.attachment) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
begin
    if not motive.held_as_made(a.id) then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = format('the columns of the annotation of %s are of other types than motive.attach() gave them', a.target),
            hint = format('Its owner can give them back, or detach: motive.detach(%L, %L, drop_columns => true).', a.target, a.text_column);
    end if;
end
$$;
comment on function motive.check_made(motive.attachment) is 'Refuses a table in which code of its owner''s could be run as the caller';
revoke all on function motive.check_made(motive.attachment) from public;

-- API: public
create function motive.correct(target regclass, key jsonb, motives text[], text_column name default null) returns void
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    a motive.attachment;
    s motive.shape;
    its_key jsonb;
    abstention constant text := (select t.code from motive.taxonomy as t where t.abstention limit 1);
    named text[];
    stranger text := (
        select min(coalesce(m, 'NULL')) from unnest(motives) as m where m is null or m not in (select t.code from motive.taxonomy as t));
    its_hash bytea;
begin
    begin
        select t.* into strict a from motive.attachment as t
        where t.target = correct.target and t.text_column = coalesce(correct.text_column, t.text_column);
    exception
        when no_data_found then
            raise exception using errcode = 'undefined_object', message = format('%s is not attached', target), hint = 'See motive.attachments.';
        when too_many_rows then
            raise exception using errcode = 'invalid_parameter_value',
                message = format('%s is attached by several columns', target), hint = 'Name one with text_column.';
    end;
    perform motive.check_made(a);
    if abstention is null then
        raise exception using
            errcode = 'object_not_in_prerequisite_state',
            message = 'no taxonomy is loaded: there are no motives to correct to',
            hint = 'As the owner of the extension: select motive.load_model(); or let a worker register its model.';
    elsif motives is null or array_ndims(motives) > 1 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'motives is not an array of one dimension',
            hint = 'Such as ''{gift,price_value}''; an empty array says that no motive is stated.';
    elsif stranger is not null then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('%L is not a motive of the taxonomy', left(stranger, 63)),
            hint = 'See motive.taxonomy; an empty array says that no motive is stated.';
    end if;
    named := array_remove(motives, abstention);
    its_key := motive.normal_key(target, key);
    s := motive.shape_of(a.id);
    perform set_config('motive.writing', 'on', true);
    execute format(
        'update %1$s as t set %2$s = coalesce($2[1], $3), %3$s = 1, %4$s = $2, %5$s = ''person'', %6$s = %7$s '
        'from (select $1 as key) as g where %8$s and t.%9$s is not null returning t.%6$s',
        s.relation, s.motive, s.confidence, s.motives, s.model, s.hash, motive.hash_expression('t.' || s.body), s.match, s.body)
        into its_hash using its_key, named, abstention;
    perform set_config('motive.writing', '', true);
    if its_hash is null then
        raise exception using
            errcode = 'no_data_found',
            message = format('no row of %s with key %s, or none with a text', target, key),
            hint = 'The key is to_jsonb(the primary key), or of several columns an array of their values, or an object.';
    end if;
    insert into motive.correction (attachment, key, hash, motives) values (a.id, its_key, its_hash, named);
end
$$;
comment on function motive.correct(regclass, jsonb, text[], name) is
    'A person''s label for the text as it stands: no model overwrites it while the text stays; needs UPDATE on the table. The key is to_jsonb(its value), or of several columns an array or object';
revoke all on function motive.correct(regclass, jsonb, text[], name) from public;

-- API: public
create function motive.corrections(target regclass, text_column name default null)
    returns table (key jsonb, body text, motives text[])
    language plpgsql volatile parallel unsafe
    set search_path to pg_catalog, pg_temp
    set datestyle to 'ISO' set timezone to 'UTC' set intervalstyle to 'postgres' set extra_float_digits to 1 set bytea_output to 'hex'
as $$
#variable_conflict use_column
declare
    s motive.shape;
    attached integer;
begin
    for attached in
        select a.id from motive.attachment as a
        where a.target = corrections.target and a.text_column = coalesce(corrections.text_column, a.text_column)
    loop
        perform motive.check_made(a) from motive.attachment as a where a.id = attached;
        s := motive.shape_of(attached);
        return query execute format('select %1$s, t.%2$s::text, t.%3$s from %4$s as t where t.%5$s = ''person'' order by %6$s',
            s.key_of_t, s.body, s.motives, s.relation, s.model, s.key_list);
    end loop;
end
$$;
comment on function motive.corrections(regclass, name) is
    'Texts with the labels that people gave them, for training; with the caller''s rights on the table';
revoke all on function motive.corrections(regclass, name) from public;
