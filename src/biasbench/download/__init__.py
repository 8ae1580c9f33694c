"""Fetching data sets: resumed, checked, safely unpacked."""

from __future__ import annotations

from biasbench.download.coco import COCO_FILES as COCO_FILES
from biasbench.download.coco import COCO_URL as COCO_URL
from biasbench.download.coco import download_coco as download_coco
from biasbench.download.transfer import fetch as fetch
from biasbench.download.unpack import unzip as unzip
