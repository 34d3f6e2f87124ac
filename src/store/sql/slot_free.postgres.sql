-- The lowest free slots of concurrency keys.
--  $1 keys  $2 up to which number  $3 how many
-- How many are taken tells only how far to look.
select a.key, f.n
  from unnest($1::text[], $2::integer[], $3::integer[]) as a(key, most, many),
       lateral (select g.n
                  from generate_series(1, least(a.most, a.many + (select count(*) from reveille_slot s where s.key = a.key)::integer)) as g(n)
                 where not exists (select 1 from reveille_slot s where s.key = a.key and s.n = g.n)
                 order by g.n
                 limit a.many) f
