-- The demo's tables. Each named statement is run by sidecar.demo.show; psql users can run them too.

-- name: create
create schema shop;
create table shop.texts (
    id bigint generated always as identity primary key,
    kind text not null check (kind in ('review', 'query', 'post')),
    lang text not null,
    category text not null,
    body text not null
);
comment on table shop.texts is 'Sample reviews, search queries and community posts of an online shop.';

-- name: load
copy shop.texts (kind, lang, category, body) from stdin (format csv, header true);

-- name: attach
select motive.attach('shop.texts', 'body');

-- name: pending
select count(*) from shop.texts where motive is null;

-- name: rows
select kind, body, motive, round(motive_confidence::numeric, 2), array_to_string(motives[2:], ', ')
from shop.texts
order by id;

-- name: shares
select category, motive, count(*)
from shop.texts
where motive <> 'unknown'
group by category, motive
order by category, count(*) desc, motive;

-- name: explain
select motive, evidence, round(weight::numeric, 2)
from explain_motive('I want to buy a new phone because my old one is too slow.');

-- name: one
select classify_motive('I want to buy a new phone because my old one is too slow.'),
       classify_motive('给妈妈的生日礼物'),
       classify_motive('wireless mouse');
