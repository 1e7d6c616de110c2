"""Deliberate faults in the scripts: each must be found by the simulation, or a check is missing.

A mutant is one script with one piece of its text replaced. Where the text is not there any more,
making the mutant fails: it has to be written again for what the script says now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from celery_actors.store.sources import SOURCES

from .schedule import Mode

__all__ = ["MUTANTS", "Mutant"]

FENCE = "if meta[1] ~= ARGV[1] or meta[2] ~= ARGV[2] then return %s end"


@dataclass(frozen=True)
class Mutant:
    """One fault: ``new`` in place of ``old`` in a script; ``mode`` and ``seed`` find it."""

    name: str
    script: str
    old: str
    new: str
    mode: Mode = "once"
    seed: int = 0

    def sources(self) -> Mapping[str, bytes]:
        """Return all scripts, with the fault in this one and in those that contain it.

        Raises:
            LookupError: the script does not say that, or says it twice.
        """
        before = SOURCES[self.script]
        if before.count(self.old.encode()) != 1:
            raise LookupError(
                f"the mutant {self.name!r} does not fit {self.script}.lua any more: {self.old!r} "
                f"is there {before.count(self.old.encode())} times. Write it for the present text"
            )
        after = before.replace(self.old.encode(), self.new.encode())
        return {name: source.replace(before, after) for name, source in SOURCES.items()}


MUTANTS = (
    # -- who owns an actor ---------------------------------------------------------------------
    Mutant("commit without fence", "commit", FENCE % "{-10}", "", "once", 16),
    Mutant("take without fence", "take", FENCE % "{-10}", "", "once", 17),
    Mutant("mark without fence", "mark", FENCE % "-10", "", "once", 9),
    Mutant("begin without fence", "begin", FENCE % "-10", "", "once", 72),
    Mutant("release without fence", "release", FENCE % "-10", "", "once", 750),
    Mutant(
        "durable commit without fence", "commit_state",
        "if meta[1] ~= inner[1] or meta[2] ~= inner[2] then return {-10} end", "", "state", 233,
    ),
    Mutant("a claim is not repeatable", "claim", "if before then", "if false then", "once", 18),
    Mutant(
        "the epoch begins again", "claim",
        "math.max(tonumber(meta[2]) + 1, now[1] * 1000 + math.floor(now[2] / 1000))", "1",
    ),
    Mutant(
        "an actor is claimed that has an owner", "claim",
        "(meta[1] == 'pending' or meta[1] == 'restarting') and meta[3] == ''", "meta[1]",
    ),
    Mutant("a creation is not repeatable", "create",
           "if redis.call('EXISTS', KEYS[1]) == 1 then return {0} end", "", "once", 65),
    Mutant(
        "a kill does not fence", "kill",
        "'own', '@reaper', 'cause', ARGV[2], 'killed', '1',\n"
        "  'ep', string.format('%.0f', tonumber(meta[2]) + 1))",
        "'cause', ARGV[2], 'killed', '1')", "once", 1,
    ),
    Mutant(
        "a node that is taken over comes back", "tick",
        "if not known or redis.call('EXISTS', KEYS[6]) == 1 then", "if not known then", "once", 1,
    ),
    Mutant(
        "a node owns what its record does not say", "disown",
        "if string.match(owner, '^([^|]*)|') == ARGV[2] then return 0 end", "", "resting", 46,
    ),
    # -- resting -------------------------------------------------------------------------------
    Mutant("the resting are not woken", "submit",
           "if meta[1] == 'passive' then rouse(KEYS[2]) end", "", "resting", 1),
    Mutant(
        "an actor rests though a call waits", "passivate",
        "if redis.call('LLEN', KEYS[1]) > 0 or redis.call('HLEN', KEYS[3]) > 0 then return 0 end",
        "", "resting", 3,
    ),
    Mutant("rest without fence", "passivate", FENCE % "-10", "", "resting", 18),
    # -- accepting -----------------------------------------------------------------------------
    Mutant(
        "a repeated submission counts twice", "submit",
        "local last = tonumber(redis.call('HGET', KEYS[3], ARGV[1]) or '0')",
        "local last = first - 1", "once", 12,
    ),
    Mutant(
        "a gap is not refused", "submit",
        "if last < after then return {-3, last} end", "", "once", 55
    ),
    Mutant(
        "the dead accept calls", "submit",
        "if meta[1] == 'dead' or meta[1] == 'buried' then return {-2, meta[2] or '', meta[3] or ''}"
        " end",
        "", "once", 2,
    ),
    # -- committing ----------------------------------------------------------------------------
    Mutant(
        "the position stays", "commit",
        "redis.call('HSET', KEYS[2], 'ap', pos + settled)", "", "once", 24
    ),
    Mutant(
        "the position is not compared", "commit",
        "if ap ~= pos and ap ~= pos + settled then return {-11, ap} end", "", "once", 115,
    ),
    Mutant(
        "answered calls stay in line", "commit",
        "redis.call('LTRIM', KEYS[1], 0, -settled - 1)", "",
    ),
    Mutant(
        "fetched calls are not marked", "commit",
        "redis.call('HSET', KEYS[2], 'go', pos + settled + count)", "", "once", 3,
    ),
    Mutant(
        "a call out of line is settled twice", "take",
        "if redis.call('HDEL', KEYS[3], position) == 1 then",
        "if redis.call('HDEL', KEYS[3], position) >= 0 then", "once", 183,
    ),
    Mutant(
        "an old commit brings its state back", "commit_state",
        "if new and ARGV[2] ~= '' then", "if ARGV[2] ~= '' then", "state", 97,
    ),
    Mutant(
        "a state is stored without its calls", "commit_state",
        "reply = commit(KEYS, inner)", "reply = {0, {}, 0}", "state",
    ),
    Mutant(
        "what a call sends is lost", "commit_state",
        "if new or name == 'submit' or name == 'submit_shared' then", "if false then", "state", 1,
    ),
    Mutant(
        "what a call sends goes behind its commit", "commit_state",
        "if new or name == 'submit' or name == 'submit_shared' then", "if not new then", "state", 1,
    ),
    Mutant(
        "a late birth brings the first state back", "born",
        " and redis.call('HGET', KEYS[1], 'ap') == ARGV[2]", "", "state", 182,
    ),
    # -- a journal -----------------------------------------------------------------------------
    Mutant("a state leaves its calls in the journal", "commit_state",
           "if ARGV[1] == '1' then redis.call('UNLINK', KEYS[1]) end", "", "journal", 2),
    Mutant(
        "a repeated commit notes its calls twice", "commit_state",
        "if new or name == 'submit' or name == 'submit_shared' then", "if true then", "journal", 3,
    ),
    Mutant("the state of an end leaves its calls in the journal", "born",
           "redis.call('UNLINK', KEYS[3])", "", "journal", 1),
    # -- cancelling ----------------------------------------------------------------------------
    Mutant(
        "a running call is withdrawn", "cancel",
        "fetched = math.max(1, tonumber(meta[2] or '0') - tonumber(meta[1] or '0'))",
        "fetched = 0",
    ),
    Mutant("calls of the dead are withdrawn", "cancel",
           "fetched = #list", "fetched = 0", "once", 58),
    Mutant("a withdrawn call stays in line", "cancel",
           "redis.call('LREM', KEYS[1], 1, list[i])", "", "once", 4),
    Mutant(
        "a cancellation is forgotten", "cancel",
        "if ARGV[2] ~= '0' then redis.call('SET', KEYS[3], '1', 'EX', ARGV[2]) end", "",
    ),
    # -- recovering ----------------------------------------------------------------------------
    Mutant(
        "a release does not compare what was fetched", "release",
        "meta[6] ~= ARGV[15] or ", "", "once", 111
    ),
    Mutant(
        "a release does not compare what has begun", "release",
        "if table.concat(begun, ' ') ~= ARGV[17] then return -11 end", "", "once", 809,
    ),
    Mutant("the wake-up is lost", "release", "redis.call('LPUSH', KEYS[5], ARGV[8])", ""),
    Mutant(
        "what is run again goes behind", "release",
        "do redis.call('RPUSH', KEYS[1], ARGV[i]) end",
        "do redis.call('LPUSH', KEYS[1], ARGV[i]) end", "again",
    ),
    Mutant(
        "parked calls go back in the wrong order", "claim",
        "return tonumber(a) > tonumber(b)", "return tonumber(a) < tonumber(b)", "once", 3,
    ),
    Mutant(
        "parked calls are lost", "claim",
        "redis.call('RPUSH', actor[2], redis.call('HGET', base .. ':p', position))", "", "once", 3,
    ),
    # -- ending --------------------------------------------------------------------------------
    Mutant(
        "parked calls of the dead are lost", "unpark",
        "redis.call('RPUSH', KEYS[1], redis.call('HGET', KEYS[3], position))", "", "once", 75,
    ),
    Mutant(
        "nobody hears of a killed actor", "kill",
        "redis.call('HSET', KEYS[3], ARGV[1], meta[6])", "", "once", 888,
    ),
    Mutant(
        "nobody hears of a dead actor", "release",
        "redis.call('HSET', KEYS[9], ARGV[10], KEYS[1])", "", "once", 380,
    ),
    Mutant("a burial leaves keys", "bury", "redis.call('DEL', KEYS[3], ", "redis.call('DEL', "),
    Mutant("a token leaks", "drop", "redis.call('SREM', base .. ':t', token)", "", "once", 3),
    Mutant(
        "the last handle ends nothing", "drop",
        "redis.call('LPUSH', queue, meta[2])", "", "once", 3,
    ),
)  # fmt: skip
