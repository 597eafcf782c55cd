"""The same calls as jobs of procrastinate, which keeps no answers.

`python answer_procrastinate.py CONNINFO ADDRESS COUNT WORKERS` prints its figures as JSON, from
the moment that all jobs are queued: what queueing costs them is in another row.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import procrastinate
from answer_client import Clock, ask


async def main(conninfo, address, count, workers):
    connector = procrastinate.PsycopgConnector(conninfo=conninfo, min_size=4, max_size=workers)
    app = procrastinate.App(connector=connector)

    @app.task(name="answer")
    def answer(number):  # not async: the client is the one that the others have
        ask(address, number)

    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(workers))
    async with app.open_async():
        if not await app.check_connection_async():
            await app.schema_manager.apply_schema_async()
        for number_of_jobs in (workers, count):  # the first are to warm up
            await answer.batch_defer_async(*({"number": n} for n in range(number_of_jobs)))
            clock = Clock()
            await app.run_worker_async(
                concurrency=workers, wait=False, install_signal_handlers=False
            )
        clock.tell(count)
        jobs = await app.job_manager.list_jobs_async()
        if any(job.status != "succeeded" for job in jobs):
            sys.exit("a job failed")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
