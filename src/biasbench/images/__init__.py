"""Images: decoded once into a store, then cropped many times; or decoded at every load."""

from __future__ import annotations

from biasbench.images.decode import Image as Image
from biasbench.images.decode import read_image as read_image
from biasbench.images.decode import resize_short as resize_short
from biasbench.images.loader import Loader as Loader
from biasbench.images.loader import SplitInput as SplitInput
from biasbench.images.store import ImageStore as ImageStore
from biasbench.images.store import store_key as store_key
