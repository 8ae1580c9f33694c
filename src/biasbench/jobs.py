"""The jobs that a plan's cells consist of, as their processes are told them."""

from __future__ import annotations

from pathlib import Path

from biasbench.inputs import Inputs
from biasbench.job import CellJob, DataInput, ImagesJob, MeasureJob, WeightsInput
from biasbench.planned import Cell
from biasbench.store import Store


class Jobs:
    """Makes the jobs of one run.

    Args:
        store: Where results go.
        cache: Where decoded images and cached activations go.
        device: Torch device of the cells.
        plugins: Files given with `--plugin`.
        tensorboard: Whether cells write event files.
    """

    def __init__(
        self, store: Store, cache: Path, device: str, plugins: tuple[str, ...], *, tensorboard: bool = False
    ) -> None:
        self.store, self.cache, self.device, self.plugins = store, cache, device, plugins
        self.tensorboard = tensorboard
        self.inputs = Inputs(store, cache)

    def predicting(self, cell: Cell | None) -> CellJob:
        """Train a cell unless that is done, and predict."""
        return self._cell(cell, predict=True)

    def training(self, cell: Cell | None) -> CellJob:
        """Train a cell."""
        return self._cell(cell, predict=False)

    def _cell(self, cell: Cell | None, *, predict: bool) -> CellJob:
        assert cell is not None
        spec = cell.spec
        init, plain = spec.method.init, spec.plain()
        return CellJob(
            key=cell.key if predict else cell.training_key,
            method=spec.method.text if predict else spec.method.training_text,
            training_method=spec.method.training_text,
            training_key=cell.training_key,
            init_key=spec.training_key(init) if init else None,
            streams=plain.training_key(),
            run_streams=plain.key() if predict else plain.training_key(),
            primary_attribute=cell.data.dataset.primary_attribute,
            data=self.inputs.of(cell),
            backbone=cell.backbone,
            backbone_options=dict(cell.options),
            weights=WeightsInput(
                kind=cell.weights.kind, label=cell.weights.label, digest=cell.weights.digest, path=cell.weights.path
            ),
            recipe=spec.recipe,
            seed=spec.seed,
            fingerprint=spec.fingerprint,
            device=self.device,
            precision=spec.precision,
            predict=predict,
            secondary=self.inputs.secondary(cell),
            beside=spec.beside if predict else (),
            cache=self.cache.absolute(),
            results=self.store.root.absolute(),
            plugins=self.plugins,
            sources=cell.sources,
            tensorboard=self.tensorboard,
        )

    def measuring(self, cell: Cell | None) -> MeasureJob:
        """Measure a finished run."""
        assert cell is not None
        return MeasureJob(
            key=cell.key,
            metrics=cell.metrics,
            attributes=cell.attributes,
            protocol=cell.protocol,
            results=self.store.root.absolute(),
            cache=self.cache.absolute(),
            threads=cell.spec.recipe.threads,
            plugins=self.plugins,
        )


def images_job(data: DataInput, short_side: int | None, _cell: Cell | None) -> ImagesJob:
    """Decode and resize a data set's images."""
    assert short_side is not None
    return ImagesJob(data=data, short_side=short_side)
