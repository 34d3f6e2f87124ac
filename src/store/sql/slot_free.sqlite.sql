-- The lowest free slots of a concurrency key.
--  $1 key  $2 up to which number  $3 how many
-- The numbers are made one by one, as long as they are asked for.
with recursive g(n) as (select 1 union all select n + 1 from g where n < $2)
select $1, g.n
  from g
 where g.n <= $2
   and not exists (select 1 from reveille_slot s where s.key = $1 and s.n = g.n)
 limit $3
