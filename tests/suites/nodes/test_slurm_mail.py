"""Who asks for a mail about a job gets one: the relay takes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hpcstate.check.suite import DEPLOY_AGAIN, CheckFailed, RecordProperty, fault
from hpcstate.model import Cluster, Node
from hpcstate.node import mail
from hpcstate.node.ssh import Live
from hpcstate.slurm.conf import MAIL_PROG, slurm_user
from tests.suites.breaking import Edit, edited

SECONDS = 40


def test_mail(live: Live, cluster: Cluster, controller: Node, record_property: RecordProperty) -> None:
    """slurmctld has a program for mails, and the relay of the cluster file answers it; no mail is sent"""
    if cluster.mail is None:
        pytest.skip("the cluster file has no mail: who asks for one is told so")
    user = slurm_user(cluster)
    ask = (
        f"scontrol show config | grep -q '^MailProg *= {MAIL_PROG}$' || echo no program\n"
        f"runuser -u {user} -- timeout -k 5 {SECONDS} msmtp --file={mail.RELAY} --serverinfo 2>&1"
    )
    answer = live.run(controller.name, ask, user="root", timeout=SECONDS + 30, check=False)
    relay = f"{cluster.mail.host}:{cluster.mail.port}"
    lines = answer.stdout.strip().splitlines()
    if answer.code != 0 or "no program" in lines:
        said = lines[-1] if lines else f"nothing in {SECONDS} s"
        raise CheckFailed(
            f"MailProg is {MAIL_PROG}, and {relay} answers {user} of {controller.name}",
            "slurmctld has another MailProg" if "no program" in lines else said,
            f"msmtp --file={mail.RELAY} --serverinfo on {controller.name}, slurmctld.log; " + DEPLOY_AGAIN,
        )
    record_property("observed", f"{relay} answers {user} on {controller.name}")


@fault("the relay does not answer", "nodes.mail")
def no_relay(live: Live) -> Iterator[None]:
    relay = live.cluster.mail
    if relay is None:
        pytest.skip("the cluster file has no mail")

    def nowhere(text: str) -> str:
        text = text.replace(f"\nhost {relay.host}\n", "\nhost 127.0.0.1\n")
        return text.replace(f"\nport {relay.port}\n", "\nport 1\n")

    with edited(live, [Edit(live.cluster.controller.name, mail.RELAY, nowhere)]):
        yield
