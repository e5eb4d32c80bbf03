"""The password of the relay that takes the cluster's mails."""

from __future__ import annotations

from pyinfra.api.exceptions import DeployError

from hpcstate.model import Cluster


def relay_password(cluster: Cluster) -> str:
    """The first line of ``mail.password_file``, empty without one. Raises DeployError where it cannot be
    read."""
    if cluster.mail is None or cluster.mail.password_file is None:
        return ""
    try:
        return cluster.mail.password_file.read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise DeployError(f"mail.password_file: {cluster.mail.password_file}: {reason}") from None
