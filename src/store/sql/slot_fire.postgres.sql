-- Ends waits for a slot: each task takes its number and is ready, in one transaction. The event that it has stays.
--  $1 now  $2 who  $3 concurrency key
--  waits: $4 task  $5 generation  $6 number
-- Task rows are locked first, in the order of their ids, as at fire. Who finds its number taken after all waits on.
with held as materialized (
       select k.id, f.n
         from unnest($4::uuid[], $5::integer[], $6::integer[]) as f(id, generation, n)
         join reveille_task k on k.id = f.id and k.generation = f.generation and k.state = 'deferred'
        order by k.id
          for update of k),
     took as (
       insert into reveille_slot (key, n, task_id) select $3, n, id from held
           on conflict do nothing
       returning task_id),
     over as (
       delete from reveille_trigger t
        using took
        where t.task_id = took.task_id
       returning t.task_id, t.generation),
     keys as (delete from reveille_wait_key w using over o where w.task_id = o.task_id),
     moved as (
       update reveille_task k
          set state = 'ready', generation = k.generation + 1
         from over o
        where k.id = o.task_id and k.generation = o.generation and k.state = 'deferred'
       returning k.id, k.generation, k.turn, k.attempt),
     told as (
       insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, who)
       select $1 / 86400000 % 32, id, $1, generation, turn, attempt, 'deferred', 'ready', 'slot', $2 from moved)
select id from moved
