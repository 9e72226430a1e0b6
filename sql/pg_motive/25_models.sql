-- API: private
create table motive.taxonomies (
    digest bytea not null check (octet_length(digest) = 32),
    position integer not null check (position > 0),
    code text not null check (code ~ '^[a-z][a-z0-9_]{0,62}$'),
    abstention boolean not null,
    "group" text not null,
    name_en text not null,
    name_zh text not null,
    definition_en text not null,
    definition_zh text not null,
    source text not null,
    loaded_at timestamptz not null default clock_timestamp(),
    primary key (digest, code),
    unique (digest, position)
);
comment on table motive.taxonomies is 'Every taxonomy that a model of this database has used, by digest; never changed, only added to';
comment on column motive.taxonomies.digest is 'SHA-256 of the taxonomy; another order or another word gives another digest';
comment on column motive.taxonomies.position is 'Place in the taxonomy, from 1; the abstention code comes last';
comment on column motive.taxonomies.code is 'What stands in motive columns';
comment on column motive.taxonomies.abstention is 'True for the one code that means: no motive is stated';
comment on column motive.taxonomies."group" is 'Group of motives; empty for the abstention code';
comment on column motive.taxonomies.name_en is 'Name, in English';
comment on column motive.taxonomies.name_zh is 'Name, in Chinese';
comment on column motive.taxonomies.definition_en is 'Definition in one sentence, in English';
comment on column motive.taxonomies.definition_zh is 'Definition in one sentence, in Chinese';
comment on column motive.taxonomies.source is 'The literature it rests on';
comment on column motive.taxonomies.loaded_at is 'When it was loaded into this database';
revoke all on motive.taxonomies from public;
select pg_catalog.pg_extension_config_dump('motive.taxonomies', '');

-- One row a code, so that a join by code never doubles a row, and codes of earlier taxonomies still find their names.
-- API: public
create view motive.taxonomy as
select distinct on (code)
    code, position, abstention, "group", name_en, name_zh, definition_en, definition_zh, source, digest
from motive.taxonomies
order by code, loaded_at desc, digest;
comment on view motive.taxonomy is 'Every motive that a row of this database may carry, with its names and its definition as last loaded';
revoke all on motive.taxonomy from public;

-- API: public
create table motive.models (
    digest bytea primary key check (octet_length(digest) = 32),
    name text not null,
    version text not null,
    model text not null unique generated always as (name || '@' || version || '/' || left(encode(digest, 'hex'), 8)) stored,
    taxonomy_digest bytea not null,
    loaded_at timestamptz not null default clock_timestamp()
);
comment on table motive.models is 'Every model that has been loaded into this database, by digest';
comment on column motive.models.digest is 'SHA-256 of the model, 32 bytes';
comment on column motive.models.name is 'Such as motive';
comment on column motive.models.version is 'Such as 1.0.0+int8';
comment on column motive.models.model is 'name@version/digest8, as it stands on annotated rows';
comment on column motive.models.taxonomy_digest is 'Its taxonomy: motive.taxonomies.digest';
comment on column motive.models.loaded_at is 'When it was loaded into this database';
revoke all on motive.models from public;
select pg_catalog.pg_extension_config_dump('motive.models', '');

-- API: private
create function motive.register_model(document jsonb) returns text
    language plpgsql volatile strict parallel unsafe
    set search_path to pg_catalog, pg_temp
as $$
declare
    model_digest bytea := decode(document ->> 'digest', 'hex');
    its_taxonomy bytea := decode(document ->> 'taxonomy_digest', 'hex');
    loaded text;
begin
    if (select count(*) from jsonb_array_elements(document -> 'taxonomy') as e where (e ->> 'abstention')::boolean) <> 1 then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = 'the model''s taxonomy does not have exactly one abstention code',
            hint = 'Correct its taxonomy file and export the model again.';
    end if;
    if exists (select from motive.taxonomies as t where t.digest = its_taxonomy) and exists (
        (select e.position, e.entry ->> 'code', (e.entry ->> 'abstention')::boolean
         from jsonb_array_elements(document -> 'taxonomy') with ordinality as e (entry, position)
         except all select t.position, t.code, t.abstention from motive.taxonomies as t where t.digest = its_taxonomy)
        union all
        (select t.position, t.code, t.abstention from motive.taxonomies as t where t.digest = its_taxonomy
         except all select e.position, e.entry ->> 'code', (e.entry ->> 'abstention')::boolean
         from jsonb_array_elements(document -> 'taxonomy') with ordinality as e (entry, position))
    ) then
        raise exception using
            errcode = 'invalid_parameter_value',
            message = format('the taxonomy with digest %s is known, and has other codes', left(encode(its_taxonomy, 'hex'), 8)),
            hint = 'Export the model again: a taxonomy''s digest follows from its codes.';
    end if;
    insert into motive.taxonomies
        (digest, position, code, abstention, "group", name_en, name_zh, definition_en, definition_zh, source)
    select its_taxonomy, e.position, e.entry ->> 'code', (e.entry ->> 'abstention')::boolean, e.entry ->> 'group',
           e.entry ->> 'name_en', e.entry ->> 'name_zh', e.entry ->> 'definition_en', e.entry ->> 'definition_zh',
           e.entry ->> 'source'
    from jsonb_array_elements(document -> 'taxonomy') with ordinality as e (entry, position)
    on conflict do nothing;
    insert into motive.models (digest, name, version, taxonomy_digest)
    values (model_digest, document ->> 'name', document ->> 'version', its_taxonomy)
    on conflict do nothing;
    select m.model into strict loaded from motive.models as m where m.digest = model_digest;
    return loaded;
end
$$;
comment on function motive.register_model(jsonb) is
    'Records a model and its taxonomy, given as motive.load_model() reads them from the sidecar; returns name@version/digest8';
revoke all on function motive.register_model(jsonb) from public;
