-- Gives triggers of mine back, to be leased again from a time on; one for which more has come than its last check knew of,
-- from when that came.
--  $1 me  $2 task  $3 generation  $4 wake at  $5 how much its last check knew of
update reveille_trigger
   set holder = null, wake_at = case when arrivals > $5 then wake_at else $4 end
 where task_id = $2 and generation = $3 and holder = $1
