-- Fires the passive waits that are due, without reading what they are.
--  $1 now  $2 who  $3 how many
-- What is deleted is found by its id: it is compared so that the index of what is due is not gone through for each.
with due as materialized (
       select t.task_id from reveille_trigger t where t.passive and t.wake_at <= $1 order by t.wake_at limit $3),
     held as materialized (
       select k.id, k.generation from reveille_task k where k.id = any(array(select task_id from due)) order by k.id for update skip locked),
     over as (
       delete from reveille_trigger t
        using held h
        where t.task_id = h.id and t.generation = h.generation and t.passive is not distinct from true and t.wake_at <= $1
       returning t.task_id, t.generation),
     moved as (
       update reveille_task k
          set state = 'ready', generation = k.generation + 1, ready_at = coalesce(k.ready_at, $1)
         from over o
        where k.id = o.task_id and k.generation = o.generation and k.state = 'deferred'
       returning k.id, k.generation, k.turn, k.attempt),
     told as (
       insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, who)
       select $1 / 86400000 % 32, id, $1, generation, turn, attempt, 'deferred', 'ready', 'due', $2 from moved)
select count(*) from moved
