"""Face boxes of data sets that have none of their own: from a file, or from a detector."""

from __future__ import annotations

from biasbench.faces.cache import boxes_file as boxes_file
from biasbench.faces.choice import FACE as FACE
from biasbench.faces.choice import MASKS as MASKS
from biasbench.faces.choice import DetectedFaces as DetectedFaces
from biasbench.faces.choice import FaceFile as FaceFile
from biasbench.faces.choice import Faces as Faces
from biasbench.faces.choice import choose_faces as choose_faces
from biasbench.faces.choice import split_option as split_option
from biasbench.faces.choice import without_faces as without_faces
