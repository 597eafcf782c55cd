-- a copy for tests does not do again what the original does and pays for
UPDATE llm_generation_queue
   SET enabled = false;

UPDATE llm_generation_job
   SET state = 'failed',
       error_type = 'unknown_outcome',
       error_message = 'The database was neutralized while the job ran.',
       completed_at = now() AT TIME ZONE 'UTC'
 WHERE state = 'running';

UPDATE llm_generation_attempt
   SET outcome = 'failed',
       error_type = 'unknown_outcome',
       ended_at = now() AT TIME ZONE 'UTC'
 WHERE outcome = 'running';

UPDATE llm_generation_job
   SET retry_at = NULL
 WHERE retry_at IS NOT NULL;

-- nor does it cancel what the original has its providers do
UPDATE llm_generation_job
   SET cancel_requested = false
 WHERE cancel_requested;

-- nor does anybody there, by whatever way, call on the account of the original
UPDATE llm_provider
   SET api_key = NULL
 WHERE api_key IS NOT NULL;

UPDATE llm_generation_queue
   SET webhook_secret = NULL
 WHERE webhook_secret IS NOT NULL;

DELETE FROM llm_generation_runner;
