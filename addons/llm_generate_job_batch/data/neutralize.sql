-- a copy for tests neither fetches nor forgets what the original has its providers do
UPDATE llm_generation_job
   SET provider_batch_id = NULL,
       batch_lane = false
 WHERE batch_lane;

UPDATE llm_generation_provider_batch
   SET state = 'failed',
       next_step_at = NULL,
       leased_until = NULL,
       ended_at = now() AT TIME ZONE 'UTC'
 WHERE next_step_at IS NOT NULL;
