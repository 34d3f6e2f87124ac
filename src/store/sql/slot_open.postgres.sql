-- Under which concurrency keys the first who waits for a slot might find one.
--  $1 keys
-- It counts, and so it only tells where to look: whoever takes a slot is told by the slot.
select a.key
  from unnest($1::text[]) as a(key)
 where (select k.slot_limit - (select count(*) from reveille_slot s where s.key = k.slot_key and s.n <= k.slot_limit)
          from reveille_task k
         where k.slot_key = a.key and k.state = 'deferred' and k.ready_at is not null
           and exists (select 1 from reveille_trigger t where t.task_id = k.id and t.passive and t.kind = 'slot')
         order by k.priority desc, k.ready_at, k.id
         limit 1) > 0
