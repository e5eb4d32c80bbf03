"""What a user may declare, as frozen types. Parsed once by hpcstate.schema, then only passed around."""

from hpcstate.model.account import Group, User
from hpcstate.model.accounting import AccountingSettings, AccountUser, Qos, SlurmAccount
from hpcstate.model.backup import BackupSettings
from hpcstate.model.cluster import Cluster, Description, Home, Metadata, SlurmConfig
from hpcstate.model.container import Container, ContainerSettings, ContainerTest
from hpcstate.model.directory import LdapDirectory
from hpcstate.model.gpu import PassthroughDevice, SimulatedGpus
from hpcstate.model.gres import AutoDetect, GresSettings
from hpcstate.model.hardware import Acceleration, CpuTopology
from hpcstate.model.health import HealthCheck, HealthSettings
from hpcstate.model.mail import MailSettings
from hpcstate.model.monitoring import AlertReceiver, MonitoringSettings
from hpcstate.model.mount import Mount
from hpcstate.model.network import Network, PortForward
from hpcstate.model.node import Node, Role
from hpcstate.model.partition import Partition
from hpcstate.model.reservation import Reservation
from hpcstate.model.roll import RollSettings, Share
from hpcstate.model.site import Site

__all__ = [
    "Acceleration",
    "AccountUser",
    "AccountingSettings",
    "AlertReceiver",
    "AutoDetect",
    "BackupSettings",
    "Cluster",
    "Container",
    "ContainerSettings",
    "ContainerTest",
    "CpuTopology",
    "Description",
    "GresSettings",
    "Group",
    "HealthCheck",
    "HealthSettings",
    "Home",
    "LdapDirectory",
    "MailSettings",
    "Metadata",
    "MonitoringSettings",
    "Mount",
    "Network",
    "Node",
    "Partition",
    "PassthroughDevice",
    "PortForward",
    "Qos",
    "Reservation",
    "Role",
    "RollSettings",
    "Share",
    "SimulatedGpus",
    "Site",
    "SlurmAccount",
    "SlurmConfig",
    "User",
]
