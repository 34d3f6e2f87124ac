-- Swaps tasks whose concurrency key is full for waits for a slot of it. They keep everything else, their expiry too.
--  $1 now  $2 who  $3 tasks  $4 the state they are in
-- The caller has their rows: claimed in this transaction, or locked.
with moved as (
       update reveille_task k
          set state = 'deferred', holder = null, generation = k.generation + 1
        where k.id = any($3) and k.state = $4 and k.slot_key is not null
       returning k.id, k.generation, k.turn, k.attempt, k.queue, k.priority, k.ready_at, k.slot_key),
     waits as (
       insert into reveille_trigger (task_id, generation, kind, passive, queue, priority, spec, since, wake_at, deadline_at,
                                     or_resume, deaths)
       select id, generation, 'slot', true, queue, priority, null, coalesce(ready_at, $1), null, null, false, 0 from moved),
     keys as (
       insert into reveille_wait_key (key, task_id, generation)
       select 'slot:' || slot_key, id, generation from moved),
     told as (
       insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, who)
       select $1 / 86400000 % 32, id, $1, generation, turn, attempt, $4, 'deferred', 'full', $2 from moved)
select id from moved
