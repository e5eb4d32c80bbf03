"""The keys of ``health``: how nodes are watched, and the user's own checks."""

from __future__ import annotations

from typing import cast, get_args

from hpcstate.model import HealthCheck, HealthSettings
from hpcstate.model.health import CHECKS, Context, NodeState, OnFail
from hpcstate.schema import leaf
from hpcstate.schema.declare import EntriesKey, Keys, ListKey, ValueKey
from hpcstate.schema.leaf import LeafError
from hpcstate.schema.site_keys import own_path

NODE_STATES = ("ALLOC", "ANY", "CYCLE", "IDLE", "MIXED", "NONDRAINED_IDLE")
"""slurm.conf(5), HealthCheckNodeState, in 24.11."""

CHECK_NAMES = tuple(check.name for check in CHECKS)
CHECK_NAME = leaf.pattern(r"[a-z][a-z0-9_]*", "a name of lower-case letters, digits and '_'", longest=32)


def node_states(value: str) -> tuple[str, ...]:
    """HealthCheckNodeState: words with commas."""
    words = tuple(word.strip().upper() for word in value.split(","))
    if not all(word in NODE_STATES for word in words):
        raise LeafError(f"words with commas of {', '.join(NODE_STATES)}")
    return words


def on_failure(value: str) -> OnFail:
    """``on_fail`` of a check."""
    return cast(OnFail, leaf.choice(*get_args(OnFail))(value))


class OwnCheckKeys(Keys, title="own_checks"):
    name = ValueKey("its name, in reasons of drains and in the record", CHECK_NAME, "", required=True)
    program = ValueKey(
        "a program, relative to this file: exit code 0 is sound, 1 failed, with the reason as first line of "
        "what it prints (`user: …` where a user is the problem); anything else is a broken check, which "
        "drains nothing",
        own_path,
        "",
        required=True,
    )
    contexts = ListKey(
        "a list of `periodic`, `prolog`, `epilog`; without it `periodic`", leaf.choice(*get_args(Context))
    )
    on_fail = ValueKey(
        "`drain` the node, `requeue` its jobs as well, or `note` it in the node's Comment",
        on_failure,
        HealthCheck.on_fail,
    )
    timeout_s = ValueKey(
        "seconds after which it is ended, and counts as broken", leaf.integer(1, 45), HealthCheck.timeout_s
    )
    after = ValueKey(
        "how many times it fails, one behind the other, before it drains",
        leaf.integer(1, 100),
        HealthCheck.after,
    )
    states = ListKey(
        "a list of `idle`, `allocated`: it runs only on nodes without jobs, or with some; without it on all",
        leaf.choice(*get_args(NodeState)),
    )


class HealthKeys(Keys, title="health"):
    enabled = ValueKey(
        "nodes are watched by a HealthCheckProgram, prolog and epilog of hpcstate's",
        leaf.boolean,
        HealthSettings.on,
    )
    interval_s = ValueKey(
        "seconds between two looks at a node (HealthCheckInterval)",
        leaf.integer(30, 86_400),
        HealthSettings.interval_s,
    )
    node_state = ValueKey(
        "which nodes are looked at, by slurm.conf's words with commas (HealthCheckNodeState)",
        node_states,
        HealthSettings.node_state,
        default_text="`ANY`",
    )
    full_percent = ValueKey(
        "from how many per cent of its blocks on a file system counts as full",
        leaf.integer(50, 100),
        HealthSettings.full_percent,
    )
    inodes_percent = ValueKey("the same for its inodes", leaf.integer(50, 100), HealthSettings.inodes_percent)
    clock_s = ValueKey(
        "by how many seconds a node's clock may be off", leaf.integer(1, 120), HealthSettings.clock_s
    )
    active_every_h = ValueKey(
        "every so many hours nodes without jobs run the light active checks; 0: only by "
        "`hpcstate check FILE --active`",
        leaf.integer(0, 744),
        HealthSettings.active_every_h,
    )
    gate = ValueKey(
        "a node that comes back from a roll passes the light active checks before it gets jobs",
        leaf.boolean,
        HealthSettings.gate,
    )
    off = ListKey(
        f"a list of our checks that do not run, of {', '.join(f'`{name}`' for name in CHECK_NAMES)}",
        leaf.choice(*CHECK_NAMES),
    )
    note_only = ListKey("a list of our checks that drain nothing", leaf.choice(*CHECK_NAMES))
    own_checks = EntriesKey("programs of your own, see own_checks and health.md", OwnCheckKeys)
