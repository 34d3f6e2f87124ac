-- Gives a trigger of mine back, to be leased again from a time on.
--  $1 me  $2 task  $3 generation  $4 wake at
update reveille_trigger
   set holder = null, wake_at = $4
 where task_id = $2 and generation = $3 and holder = $1
