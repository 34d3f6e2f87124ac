-- Ends a batch of tasks, whoever ends them: the rows move to the finished, and what belonged to them goes.
--  $1 now
--  ends: $2 task  $3 generation  $4 state it must be in  $5 holder (null: none is needed; else the task's, or its trigger's, and live)
--        $6 state it ends in  $7 result  $8 why  $9 event id  $10 who
-- A cancelled active wait leaves what is to be undone. Locks as at fire; for a verdict, the trigger too, or another could take
-- it over meanwhile.
with f as materialized (
       select * from unnest($2::uuid[], $3::integer[], $4::text[], $5::uuid[], $6::text[], $7::bytea[], $8::text[], $9::uuid[], $10::uuid[])
         as f(id, generation, was, holder, state, result, why, event_id, who)),
     held as materialized (select k.id from reveille_task k where k.id = any($2) order by k.id for update),
     gone as (
       delete from reveille_task k
        using f
        where k.id = f.id and k.generation = f.generation and k.state = f.was
          and (select count(*) from held) >= 0
          and (f.holder is null or (
                f.holder = case f.was when 'running' then k.holder
                                      else (select t.holder from reveille_trigger t where t.task_id = k.id for update) end
                and exists (select 1 from reveille_replica r where r.incarnation = f.holder and r.gone_at is null)))
       returning k.id, k.name, k.queue, k.origin, k.batch, k.priority, k.generation, k.turn, k.attempt, k.crashes, k.max_attempts,
                 k.backoff_ms, k.backoff_cap_ms, k.dedupe, k.slot_key, k.slot_limit, k.step, k.event, k.trace, k.enqueued_at,
                 f.was, f.state, f.result, f.why, f.event_id, f.who),
     kept as (
       insert into reveille_finished (day, id, name, queue, origin, batch, state, priority, generation, turn, attempt, crashes,
                                      max_attempts, backoff_ms, backoff_cap_ms, dedupe, slot_key, slot_limit, step, event, result, trace,
                                      enqueued_at, finished_at)
       select case state when 'failed' then -1 else $1 / 86400000 % 32 end, id, name, queue, origin, batch, state, priority,
              generation + 1, turn, attempt, crashes, max_attempts, backoff_ms, backoff_cap_ms, dedupe, slot_key, slot_limit,
              case state when 'failed' then step end, case state when 'failed' then event end, result, trace, enqueued_at, $1
         from gone),
     over as (
       delete from reveille_trigger t
        using gone g
        where t.task_id = g.id and g.was = 'deferred'
       returning t.task_id, t.generation, t.kind, t.queue, t.passive, t.spec, t.since, g.why),
     undone as (
       insert into reveille_undo (task_id, generation, kind, queue, spec, since, wake_at, attempt)
       select task_id, generation, kind, queue, spec, since, $1, 1 from over where why = 'cancelled' and not passive),
     keys as (delete from reveille_wait_key w using over o where w.task_id = o.task_id),
     free as (
       delete from reveille_dedupe d
        using gone g
        where g.dedupe is not null and d.name = g.name and d.key = g.dedupe and d.task_id = g.id and d."until" is null),
     slots as (delete from reveille_slot s using gone g where g.slot_key is not null and s.task_id = g.id),
     told as (
       insert into reveille_history (day, task_id, at, generation, turn, attempt, was, became, why, event, who)
       select $1 / 86400000 % 32, id, $1, generation + 1, turn, attempt, was, state, why, event_id, who from gone)
select id, slot_key from gone
