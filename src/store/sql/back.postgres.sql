-- Puts running tasks back to ready, as they were.
--  $1 now  $2 who
--  tasks: $3 id  $4 generation  $5 holder  $6 one more crash (0 or 1)  $7 why
-- Locks as at fire, and what it compares stands in a `case`, for the reason given at defer.
with b as materialized (
       select * from unnest($3::uuid[], $4::integer[], $5::uuid[], $6::integer[], $7::text[])
         as b(id, generation, holder, crashed, why)),
     held as materialized (select k.id from reveille_task k where k.id = any($3) order by k.id for update),
     moved as (
       update reveille_task k
          set state = 'ready', holder = null, generation = k.generation + 1, crashes = k.crashes + b.crashed
         from b
        where k.id = b.id and k.generation = b.generation
          and case when k.state = 'running' and k.holder = b.holder then true end
          and (select count(*) from held) >= 0
       returning k.id, k.generation, k.turn, k.attempt, b.why)
insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, who)
select $1 / 86400000 % 32, id, $1, generation, turn, attempt, 'running', 'ready', why, $2 from moved
