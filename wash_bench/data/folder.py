"""Folder data sets: decoded by DataLoader workers, augmented batch-wise on the device."""

import math
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as F

from wash_bench.cores import cores
from wash_bench.data.augment import augment, draws_of, mix, normalize
from wash_bench.data.catalog import DatasetSpec
from wash_bench.data.recipe import Recipe
from wash_bench.data.scan import Folders, broken_image, open_file
from wash_bench.data.source import Batch, DataSource, Split, batch_bounds
from wash_bench.data.splits import SubsetRule
from wash_bench.errors import WashBenchError
from wash_bench.seeds import derive, torch_stream

# Of fewer images a worker process costs more to start than it saves.
WORKERS_FROM = 512
MOST_WORKERS = 16  # of one member; each holds two batches
_CROP_SCALE, _CROP_RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # torchvision's and the papers' defaults
_THIN = 8  # longer side over shorter: of more, only the middle is looked at
_RESIZE = 256 / 224  # shorter side before the central crop, over the crop

Item = tuple[int, int | None]  # position of a file, seed of its crop (None: resize, central crop)


class ImageFiles(Dataset):
    """Gives images of (size, size, 3) uint8; what ``open_image`` takes for each is in ``paths``."""

    def __init__(
        self,
        paths: Sequence[Any],
        size: int,
        interpolation: str = "bilinear",
        crop_pct: float = 0.0,
        open_image: Callable[[Any], Image.Image] = open_file,
    ) -> None:
        self.paths = paths
        self.open = open_image
        self.size = size
        # A crop_pct that is given is read as timm reads it, who rounds down.
        self.shorter_side = math.floor(size / crop_pct) if crop_pct else round(size * _RESIZE)
        self.interpolation = InterpolationMode(interpolation)

    def __getitem__(self, item: Item) -> np.ndarray | str:
        """The image, or an error line: an exception would lose its form between processes."""
        index, seed = item
        path = self.paths[index]
        try:
            image = self.open(path)
            image = self._central(image) if seed is None else self._random(image, seed)
        except Exception as error:  # Pillow's plug-ins raise many kinds
            return broken_image(str(path), error)
        return np.array(image)

    # torchvision's types tell of tensors alone; these functions take Pillow's images too.
    def _random(self, image: Any, seed: int) -> Any:
        with torch.random.fork_rng(devices=[]):
            # torch.manual_seed would visit the back ends of all accelerators, at every image.
            torch.default_generator.manual_seed(seed)
            box = RandomResizedCrop.get_params(image, list(_CROP_SCALE), list(_CROP_RATIO))
        return F.resized_crop(image, *box, [self.size, self.size], self.interpolation)

    def _central(self, image: Any) -> Any:
        short, long = sorted(image.size)
        if long > _THIN * short:  # resized whole, it would fill the memory
            image = F.center_crop(image, [min(side, _THIN * short) for side in image.size[::-1]])
        resized = F.resize(image, [self.shorter_side], self.interpolation)
        return F.center_crop(resized, [self.size, self.size])


class _Plan:
    """The batches that a loader is to make next, listed only as they are asked for.

    Attributes:
        parts: (B,) positions of files, one array a batch; set anew for every pass.
        seed_of: the seed of a random crop by (batch, position of the file); None: central crops.
    """

    def __init__(self) -> None:
        self.parts: list[np.ndarray] = []
        self.seed_of: Callable[[int, int], int] | None = None

    def __iter__(self) -> Iterator[list[Item]]:
        for j, part in enumerate(self.parts):
            yield [(i, self.seed_of(j, i) if self.seed_of else None) for i in part.tolist()]

    def __len__(self) -> int:
        return len(self.parts)


def _ignore_signals(worker: int) -> None:
    """Leave signals that stop a run to the process that trains."""
    for name in ("SIGTERM", "SIGUSR1"):
        signal.signal(getattr(signal, name, signal.SIGTERM), signal.SIG_IGN)


def _stack(images: list[np.ndarray | str]) -> np.ndarray | str:
    """One array, which passes through a pipe: tensors would need shared memory, often too small."""
    broken = [image for image in images if isinstance(image, str)]
    return broken[0] if broken else np.stack([i for i in images if not isinstance(i, str)])


class FolderSource(DataSource):
    """A ``DataSource`` over class folders, train/ and those of the test data.

    ``members`` read training batches in turn, each from as many processes as ``workers`` says, or
    from its share of the cores; ``subset`` is a ``SubsetRule``'s fields.
    """

    def __init__(
        self,
        spec: DatasetSpec,
        folders: Folders,
        device: torch.device,
        *,
        image_size: int = 0,
        interpolation: str = "bilinear",
        crop_pct: float = 0.0,
        members: int = 1,
        workers: int | None = None,
        **subset: Any,
    ) -> None:
        paths, labels = folders.train
        test_paths, test_labels = folders.test
        all_labels = np.concatenate([labels, test_labels])
        super().__init__(
            classes=len(folders.classes),
            **self.facts_of(spec, image_size or spec.size),
            labels=all_labels,
            pool=len(labels),
            subset=SubsetRule(**subset),
            interpolation=interpolation,
            class_names=folders.classes,
            notes=list(folders.notes),
        )
        self.device = device
        self._files = ImageFiles(
            [*paths, *test_paths], self.size, interpolation, crop_pct, folders.open
        )
        self.shorter_side = self._files.shorter_side
        self.hold_labels()
        self._mean, self._std = (torch.tensor(v, device=device) for v in (spec.mean, spec.std))
        few = len(all_labels) < WORKERS_FROM
        # Members' batches are decoded side by side, and so share the cores.
        share = 0 if few else max(1, min(MOST_WORKERS, cores() // members))
        alone = 0 if few else max(share, min(4, cores()))
        self._workers, self._workers_alone = (share, alone) if workers is None else [workers] * 2
        # Loaders are kept with their workers: one a member, since members take turns in a step,
        # and one (None) for all passes that are not of a member's training.
        self._loaders: dict[int | None, tuple[DataLoader, _Plan]] = {}
        self._busy: set[int | None] = set()

    def hold_labels(self) -> None:
        self._labels = torch.from_numpy(self.labels)

    def epoch_batches(
        self,
        seed: int,
        member: int,
        epoch: int,
        batch_size: int,
        recipe: Recipe,
        order_member: int | None = None,
        first: int = 0,
    ) -> Iterator[Batch]:
        leader = member if order_member is None else order_member
        bounds = batch_bounds(self.train_size, batch_size)
        order = self.indices["train"][self.order(seed, leader, epoch).numpy()]
        parts = [order[start:end] for start, end in bounds[first:]]

        def crop_seed(_: int, image: int) -> int:
            return derive(seed, "augment", member, epoch, image)

        decoded = self._decode(parts, crop_seed, member)
        for step, (part, images) in enumerate(zip(parts, decoded, strict=True), first):
            generator = torch_stream(seed, "augment", member, epoch * len(bounds) + step)
            yield self._batch(part, images, recipe, generator)

    def eval_batches(
        self, split: Split, limit: int = 0, batch_size: int = 500
    ) -> Iterator[tuple[Tensor, Tensor]]:
        chosen = self.indices[split][self.eval_positions(split, limit)]
        parts = [chosen[start : start + batch_size] for start in range(0, len(chosen), batch_size)]
        for part, images in zip(parts, self._decode(parts), strict=True):
            yield normalize(images, self._mean, self._std), self._labels_of(part)

    def reestimation_batches(
        self, seed: int, recipes: Sequence[Recipe], images: int, batch_size: int
    ) -> Iterator[Tensor]:
        plan = self.reestimation_plan(seed, images, batch_size)
        parts = [self.indices["train"][positions.numpy()] for positions in plan]

        def crop_seed(batch: int, image: int) -> int:
            return derive(seed, "reestimate", batch, image)

        for j, (part, decoded) in enumerate(
            zip(parts, self._decode(parts, crop_seed), strict=True)
        ):
            recipe = recipes[j % len(recipes)]
            yield self._batch(part, decoded, recipe, torch_stream(seed, "reestimate", j)).images

    def _batch(
        self, part: np.ndarray, images: Tensor, recipe: Recipe, generator: torch.Generator
    ) -> Batch:
        augmented = augment(images, recipe, self._mean, self._std, draws_of(generator, len(part)))
        return Batch(*mix(augmented, self._labels_of(part), recipe, self.classes, generator))

    def _labels_of(self, part: np.ndarray) -> Tensor:
        return self._labels[torch.from_numpy(part)].to(self.device)

    def _decode(
        self,
        parts: list[np.ndarray],
        seed_of: Callable[[int, int], int] | None = None,
        member: int | None = None,
    ) -> Iterator[Tensor]:
        """(B, H, W, C) uint8 on the device, a batch at a time."""
        if busy := member in self._busy:  # a second pass beside the first
            loader, plan = self._new_loader(for_member=False, keep=False)
        else:
            self._busy.add(member)
            if member not in self._loaders:
                self._loaders[member] = self._new_loader(for_member=member is not None)
            loader, plan = self._loaders[member]
        plan.parts, plan.seed_of = parts, seed_of
        try:
            for images in loader:
                if isinstance(images, str):
                    raise WashBenchError(images)
                yield torch.from_numpy(images).to(self.device, non_blocking=True)
        finally:
            if not busy:
                self._busy.discard(member)

    def _new_loader(self, *, for_member: bool, keep: bool = True) -> tuple[DataLoader, _Plan]:
        plan = _Plan()
        workers = self._workers if for_member else self._workers_alone
        loader = DataLoader(
            self._files,
            batch_sampler=plan,
            num_workers=workers,
            collate_fn=_stack,
            worker_init_fn=_ignore_signals if workers else None,
            persistent_workers=keep and workers > 0,
            generator=torch.Generator(),  # or it would draw from the global stream
        )
        return loader, plan
