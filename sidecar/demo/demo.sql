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
select r.category, t."group", r.motive, count(*)
from shop.texts as r join motive.taxonomy as t on t.code = r.motive
where not t.abstention
group by r.category, t."group", t.position, r.motive
order by r.category, count(*) desc, t.position;

-- name: explain
select motive, evidence, round(weight::numeric, 2)
from explain_motive('I want to buy a new phone because my old one is too slow.');

-- name: one
select classify_motive('I want to buy a new phone because my old one is too slow.'),
       classify_motive('给妈妈的生日礼物'),
       classify_motive('wireless mouse');

-- name: arrivals
create table if not exists shop.arrivals (id bigint generated always as identity primary key, body text not null);
select motive.attach('shop.arrivals', 'body');
truncate shop.arrivals;

-- name: insert
insert into shop.arrivals (body) values
    ('My granddaughter turns six on Sunday, she will love the little kitchen'),
    ('耳机续航太短，想换一个能撑一整天的'),
    ('usb cable 2m');

-- name: copy
copy shop.arrivals (body) from stdin (format csv);

-- name: arrived
select body, motive, round(motive_confidence::numeric, 2) from shop.arrivals order by id limit 3;

-- name: waiting
select count(*) from shop.arrivals where motive is null;

-- name: total
select count(*) from shop.arrivals;

-- name: flood
insert into shop.arrivals (body)
select format('%s (%s, %s)', body, copy, clock_timestamp()) from shop.texts, generate_series(1, 3) as copy;

-- name: claimed
select exists (select from motive.queue where lease is not null);
