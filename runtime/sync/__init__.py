"""Frames of many cameras become sets, one instant of the rig each: pure logic over a clock that the caller gives."""

from .policies import ApproximateTime as ApproximateTime
from .policies import ExactTime as ExactTime
from .policies import Latest as Latest
from .policies import Policy as Policy
from .synchroniser import CameraSync as CameraSync
from .synchroniser import SampleSet as SampleSet
from .synchroniser import Synchroniser as Synchroniser
from .synchroniser import SyncStatus as SyncStatus
from .track import CameraState as CameraState
from .track import DropReason as DropReason
from .track import Sample as Sample
