"""How many, how often and how long: the numbers of the runner, and their reasons."""

#: Calls in flight at most; `ir.config_parameter` llm_generate_job.runner_slots changes it.
SLOTS = 64
#: External jobs asked about at the same time; jobs cancelled at their providers.
POLLERS, CANCELLERS = 24, 8
#: What addons ask of providers at the same time, besides their jobs.
ERRANDS = 4
#: Seconds after which a question about an external job is given up.
POLL_TIMEOUT = 30
#: Seconds between heartbeats; who is silent for HEARTBEAT_TIMEOUT and has lost its lock is dead.
HEARTBEAT, HEARTBEAT_TIMEOUT = 10.0, 45.0
#: Seconds after which a runner that cannot renew its heartbeat stops its calls: longer than most
#: databases are away for; and after which others take its jobs, whatever its lock says. A lock
#: that a network holds which has gone silent is not given back in between: see LIVENESS_SESSION.
FENCE, TAKEN_ALONE = 75.0, 95.0
#: Times, a heartbeat apart, that a runner asks itself whether it hears what the database says.
UNHEARD = 3
#: Seconds without work after which the runner ends; the scheduled action starts the next.
IDLE_TIMEOUT = 60.0
#: Seconds that a stopping server's calls have to end by themselves.
GRACE = 20.0
#: Seconds before their end in which answers are stored without what locked rows keep back.
LAST_TRY = 5.0
#: Seconds that it then waits for calls to end that it has hung up on.
HANG_UP = 3.0
#: Seconds that it then waits for what they leave to be given back.
LEAVE_TIMEOUT = 5.0
#: Seconds between tries of what waits for the database, or for room on the disk: ten minutes.
PATIENCE = (0.2, 0.5, 1, 2, 5, *[10] * 59)
#: Seconds between looks at whether the server is going down.
POLL_INTERVAL = 1.0
#: Seconds between looks at whether modules or caches changed.
REGISTRY_CHECK = 1.0
#: Seconds for which a runner whose threads are all busy leaves a slot that another one's job has
#: freed to that one, which knows of it first: looks that find nothing are most of what it costs.
SLOT_DELAY = 0.1
#: Seconds until the clock is looked at after something happened that may be due soon.
SCHEDULER_DELAY = 0.1
#: Seconds between messages to the web clients: a busy queue must not flood them.
OUTBOX_INTERVAL = 0.3
#: First key of the session lock that says "this runner lives"; the second is its id.
LIVENESS_LOCK = 1_819_110_253
