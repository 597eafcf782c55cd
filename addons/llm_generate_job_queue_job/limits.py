"""How long, and how often: the numbers of the bridge, and their reasons."""

#: Seconds that a claimed job waits for a worker of queue_job. It counts as running meanwhile, and
#: other servers' threads of a busy channel need a while; who waits for an answer looks after this.
PATIENCE = 60.0
#: Seconds that a queue starts nothing after queue_job let its jobs wait in vain.
STALLED_PAUSE = 60.0
#: Seconds until a job is handed over again whose record in queue_job failed or was removed.
LOST_DELAY = 30.0
#: Seconds until a worker tries again to begin a job that a business transaction is changing.
HELD_DELAY = 0.2
#: Seconds that a worker waits for its attendant, which needs a connection of its own.
READY = 10.0
