"""What an hpc image has of the full stack: the deploys that lay something out in build mode.

The others do nothing there. Naming them would make every change of theirs rebuild the image.
"""

from __future__ import annotations

from deploys.util.include import include

include("base.py")
include("munge.py")
include("containers.py")
