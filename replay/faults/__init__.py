"""Faults on demand: cameras, clocks, networks, subscribers and disks that misbehave, the same way each time."""

from .drive import FaultyDrive as FaultyDrive
from .grammar import KINDS as KINDS
from .grammar import check_names as check_names
from .grammar import describe_fault as describe_fault
from .grammar import parse_fault as parse_fault
from .kinds import Fault as Fault
from .process import ProcessFaults as ProcessFaults
from .stream import disturb as disturb
