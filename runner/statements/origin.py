"""Where the database is: how one that was restored or copied is known."""

#: One process at a time finds out. Before, and apart from, the reading.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('llm_generation_origin'))"

#: This database of this cluster. Neither a restored dump nor a copy keeps its number.
HERE = """
    SELECT s.system_identifier || '.' || d.oid
    FROM pg_database d, pg_control_system() s
    WHERE d.datname = current_database()
"""

#: They are processes of there.
FORGET_RUNNERS = "DELETE FROM llm_generation_runner"

#: What the database that this one comes from was doing at that moment.
RUNNING = """
    SELECT id, external_job_id IS NOT NULL FROM llm_generation_job
    WHERE state = 'running' ORDER BY id FOR NO KEY UPDATE
"""

#: The queues that would start something by themselves, and how much.
WOULD_START = """
    SELECT q.id, count(*)
    FROM llm_generation_queue q
    JOIN llm_generation_job j ON j.provider_id = q.provider_id
    WHERE q.enabled AND (j.state = 'queued' OR (j.state = 'failed' AND j.retry_at IS NOT NULL))
    GROUP BY q.id
    ORDER BY q.id
"""
