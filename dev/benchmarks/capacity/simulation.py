"""Replay a run, tick by tick: every job is counted, and those that fare alike go together.

A job waits in its provider's line, is claimed into a free slot when limit, slots and processors
allow it, is called, and keeps its slot until its verdict is stored. PostgreSQL, and each process
with a runner, can work for so many seconds in a tick; what they cannot do is left for the next
one. The same seed gives the same run.
"""

import heapq
import random
from collections import Counter, defaultdict, deque

from .policy import decide

#: Seconds after which the jobs of a dead process wait again: a heartbeat, and the life sign.
RESCUE = 55.0
#: Lengths of calls that are drawn from.
LENGTHS = 2048
CHAT, BULK = 0, 1


class Line:
    """The jobs of one provider that wait: those of chats before those of bulks."""

    def __init__(self):
        self.rows = (deque(), deque())
        self.waiting = 0

    def add(self, kind, tick, count, tried=(0, 0)):
        """Let jobs join: those that were tried before come first."""
        row = self.rows[kind]
        if tried == (0, 0):
            row.append([tick, count, tried])
        else:
            row.appendleft([tick, count, tried])
        self.waiting += count

    def take(self, count):
        """Yield (kind, tick, jobs, tried) of so many jobs from the head."""
        for kind, row in enumerate(self.rows):
            while count and row:
                head = row[0]
                some = min(count, head[1])
                head[1] -= some
                count -= some
                self.waiting -= some
                if not head[1]:
                    row.popleft()
                yield kind, head[0], some, head[2]


class Simulation:
    def __init__(self, setup, costs, seed=1):
        self.setup, self.costs = setup, costs
        self.random = random.Random(seed)
        providers, servers = setup.providers, setup.servers
        self.lines = [Line() for _one in providers]
        self.running = [0] * len(providers)
        self.most = [0] * len(providers)
        self.held = [[0] * len(providers) for _one in servers]
        self.lives = [0] * len(servers)
        self.is_up = [True] * len(servers)
        self.ends = defaultdict(Counter)
        self.refusals = defaultdict(list)
        self.unstored = [Counter() for _one in servers]
        self.later, self._number = [], 0
        self.lengths = [self._lengths(one) for one in providers]
        self.debts = dict.fromkeys(setup.hosts, 0.0)
        self.loads = {name: [] for name in setup.hosts}
        self.depths, self.in_flight = [], []
        self.waits = (Counter(), Counter())
        self.tally = Counter()
        self._claimed, self._price, self._refused = [0] * len(servers), [], set()
        self.budget, self.left = {}, []
        self.now = 0

    def _lengths(self, provider):
        """Return lengths of calls in ticks, of which each is as likely."""
        if not provider.spread:
            return [provider.mean / self.setup.tick]
        own = random.Random(provider.name)
        drawn = [own.lognormvariate(0.0, provider.spread) for _n in range(LENGTHS)]
        scale = provider.mean / self.setup.tick * LENGTHS / sum(drawn)
        return [one * scale for one in drawn]

    # === ONE TICK === #

    def step(self, asked):
        """Go on by one tick, in which jobs are asked for: [(chats, bulks) of each provider]."""
        setup, tick = self.setup, self.setup.tick
        self.budget = {name: cores * tick - self.debts[name] for name, cores in setup.hosts.items()}
        self.left = [
            min(server.processes * tick, max(0.0, self.budget[server.host])) if up else 0.0
            for server, up in zip(setup.servers, self.is_up, strict=True)
        ]
        self._obey_fate()
        self._take_questions(asked)
        self._keep_alive()
        self._end_calls()
        self._store()
        self._claim()
        self._note()
        self.now += 1

    def _spend(self, postgres, server=None, runner=0.0):
        self.budget[self.setup.postgres] -= postgres
        if server is not None:
            self.budget[self.setup.servers[server].host] -= runner
            self.left[server] -= runner

    def _obey_fate(self):
        for trouble in self.setup.losses:
            if self.now == self._tick_of(trouble.begin):
                self._lose(trouble.what)
            if self.now == self._tick_of(trouble.begin + trouble.length):
                self.is_up[trouble.what] = True
        while self.later and self.later[0][0] <= self.now:
            _due, _number, provider, kind, tick, tried, releases = heapq.heappop(self.later)
            self.running[provider] -= releases
            self.lines[provider].add(kind, tick, max(1, releases), tried)
        self._refused = {
            trouble.what
            for trouble in self.setup.outages
            if self._tick_of(trouble.begin) <= self.now
            < self._tick_of(trouble.begin + trouble.length)
        }  # fmt: skip

    def _tick_of(self, seconds):
        return int(seconds / self.setup.tick)

    def _lose(self, server):
        """A server dies: its jobs keep their slots of the limit until somebody notices."""
        self.is_up[server], self.lives[server] = False, self.lives[server] + 1
        self.left[server] = 0.0
        for provider, count in enumerate(self.held[server]):
            if count:
                due = self.now + self._tick_of(RESCUE)
                self._call_later(due, provider, BULK, self.now, (0, 1), count)
                self.tally["rescued"] += count
        self.held[server] = [0] * len(self.running)
        self.unstored[server].clear()

    def _call_later(self, due, provider, kind, tick, tried, releases=0):
        self._number += 1
        heapq.heappush(self.later, (due, self._number, provider, kind, tick, tried, releases))

    def _take_questions(self, asked):
        for provider, (chats, bulks) in enumerate(asked):
            for kind, count in ((CHAT, chats), (BULK, bulks)):
                if count:
                    self.lines[provider].add(kind, self.now, count)
                    self.tally["asked"] += count
            self._spend(chats * self.costs.ask_chat + bulks * self.costs.ask_batch)

    def _keep_alive(self):
        for number, server in enumerate(self.setup.servers):
            if self.is_up[number]:
                seconds = server.processes * self.setup.tick
                costs = self.costs
                self._spend(seconds * costs.idle_postgres, number, seconds * costs.idle_runner)

    def _end_calls(self):
        for (server, life, provider), count in self.ends.pop(self.now, {}).items():
            if life == self.lives[server]:
                self.unstored[server][provider] += count
        for server, life, provider, kind, tick, tried in self.refusals.pop(self.now, ()):
            if life == self.lives[server]:
                self._refuse(server, provider, kind, tick, tried)

    def _refuse(self, server, provider, kind, tick, tried):
        """A call was refused: the job waits as long as the engine would let it, or has failed."""
        self.held[server][provider] -= 1
        self.running[provider] -= 1
        self.tally["refused"] += 1
        free, retries = tried
        action, delay = decide(free, retries, self.random)
        if action == "fail":
            self.tally["failed"] += 1
            return
        tried = (free + 1, retries) if action == "give_back" else (free, retries + 1)
        due = self.now + max(1, round(delay / self.setup.tick))
        self._call_later(due, provider, kind, tick, tried)

    # === WORK === #

    def _prices(self, server):
        """Return the seconds that half of a job's work costs PostgreSQL, and the runner."""
        one = self.setup.servers[server]
        busy = sum(self.unstored[server].values()) + self._claimed[server]
        rate = busy / one.processes / self.setup.tick
        return self.costs.postgres.at(rate) / 2, self.costs.runner.at(rate) / 2

    def _affordable(self, server, prices):
        """Return how many half jobs a server, and PostgreSQL, can still do in this tick."""
        postgres, runner = prices
        host = self.budget[self.setup.servers[server].host]
        if self.setup.servers[server].host == self.setup.postgres:
            return max(0, -int(-min(host / (postgres + runner), self.left[server] / runner) // 1))
        free = min(host, self.left[server]) / runner
        return max(0, -int(-min(free, self.budget[self.setup.postgres] / postgres) // 1))

    def _store(self):
        """Store the verdicts of the calls that have ended: their slots are free."""
        self._price = [self._prices(server) for server in range(len(self.held))]
        for server, ended in enumerate(self.unstored):
            can = self._affordable(server, self._price[server])
            for provider in list(ended):
                some = min(can, ended[provider])
                can -= some
                ended[provider] -= some
                if not ended[provider]:
                    del ended[provider]
                self.held[server][provider] -= some
                self.running[provider] -= some
                self.tally["completed"] += some
                postgres, runner = self._price[server]
                polls = self.setup.providers[provider].polls * self.costs.poll
                self._spend(some * (postgres + polls), server, some * runner)

    def _claim(self):
        """Fill free slots; each server gets its share, and what others cannot take."""
        self._claimed = [0] * len(self.held)
        slots = [
            self.is_up[number] * one.processes * one.slots - sum(self.held[number])
            for number, one in enumerate(self.setup.servers)
        ]
        can = [self._affordable(server, self._price[server]) for server in range(len(self.held))]
        order = list(range(len(self.lines)))
        self.random.shuffle(order)  # as the engine looks at its queues
        for provider in order:
            limit = self.setup.providers[provider].limit
            wanted = min(self.lines[provider].waiting, limit - self.running[provider])
            able = [min(free, some) for free, some in zip(slots, can, strict=True)]
            for place, server in enumerate(sorted(range(len(able)), key=lambda one: able[one])):
                share = -(-wanted // (len(able) - place))
                some = max(0, min(share, able[server]))
                if some:
                    self._start(server, provider, some)
                    wanted -= some
                    slots[server] -= some
                    can[server] -= some

    def _start(self, server, provider, count):
        postgres, runner = self._price[server]
        self._spend(count * postgres, server, count * runner)
        self._claimed[server] += count
        self.held[server][provider] += count
        self.running[provider] += count
        self.most[provider] = max(self.most[provider], self.running[provider])
        life, draw, lengths = self.lives[server], self.random.random, self.lengths[provider]
        for kind, tick, some, tried in self.lines[provider].take(count):
            self.tally["attempts"] += some
            if tried == (0, 0):
                self.waits[kind][self.now - tick] += some
            if provider in self._refused:
                row = self.refusals[self.now + 1]
                row.extend([(server, life, provider, kind, tick, tried)] * some)
                continue
            for _one in range(some):
                end = draw() + lengths[int(draw() * len(lengths))]
                self.ends[self.now + max(1, int(end))][server, life, provider] += 1

    def _note(self):
        tick = self.setup.tick
        for name, cores in self.setup.hosts.items():
            spent = cores * tick - self.debts[name] - self.budget[name]
            self.loads[name].append(spent / (cores * tick))
            self.debts[name] = max(0.0, -self.budget[name])
        self.depths.append(sum(line.waiting for line in self.lines))
        self.in_flight.append(sum(self.running))

    @property
    def unended(self):
        """How many jobs have not ended: they wait, run, or are to be tried again."""
        delayed = sum(1 for one in self.later if not one[-1])
        return sum(self.running) + sum(line.waiting for line in self.lines) + delayed


def quantile(counts, share):
    """Return the value below or at which this share of a Counter's elements is."""
    left = share * sum(counts.values())
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    return 0
