"""Sources of training images: folders, datasets, and streams."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Subset

from adain.imaging import listing
from adain.models import hub
from adain.training.crops import Crop, IndexedCrops, Key, permutation
from adain.training.streams import StreamedCrops
from adain.utils.errors import first_line


@dataclass(frozen=True)
class Source:
    """A source of images.

    Attributes:
        name: A folder of images, a local dataset, or the name of a dataset on the Hugging Face Hub.
        split: The split of a dataset from the Hub.
        column: The column of a dataset that holds the images.
        streaming: Whether datasets are read as streams.
        shuffle_buffer: Number of images among which a stream is shuffled; 0 keeps its order.
        key: The seed of everything that is drawn for this source.
    """

    name: str
    split: str
    column: str
    streaming: bool
    shuffle_buffer: int
    key: Key

    def open(
        self, training: Crop, validation: Crop, num_held_out: int
    ) -> tuple[IndexedCrops | StreamedCrops, IndexedCrops]:
        """Return the crops to train on, and those of the images that are held out for validation.

        Args:
            training: The transform of training images.
            validation: The transform of validation images.
            num_held_out: Number of images that are held out.

        Raises:
            ValueError: There are no images besides those held out, or the column does not hold images.
            OSError: The dataset cannot be opened.
        """
        path = Path(self.name)
        if _is_folder_of_images(path):
            return self._split(listing.files(path), training, validation, num_held_out)
        dataset = self._open_dataset(path)
        if not self.streaming:
            return self._split(dataset[self.column], training, validation, num_held_out)
        held_out = [row[self.column] for row in dataset.take(num_held_out)]
        stream = StreamedCrops(self.name, dataset, self.column, self.shuffle_buffer, held_out, training, self.key)
        return stream, IndexedCrops(held_out, validation)

    def images(self, start: int = 0) -> Iterator[Any]:
        """Return the images in their order: paths, or cells of a dataset.

        Args:
            start: Number of images that are left out at the beginning.

        Raises:
            ValueError: There are no images, or the column does not hold images.
            OSError: The dataset cannot be opened.
        """
        path = Path(self.name)
        if _is_folder_of_images(path):
            return iter(listing.files(path)[start:])
        rows = self._open_dataset(path).select_columns([self.column]).skip(start)
        return (row[self.column] for row in rows)

    def _split(
        self, images: Any, training: Crop, validation: Crop, num_held_out: int
    ) -> tuple[IndexedCrops, IndexedCrops]:
        """Hold random images out of a source of known length. Columns of datasets are read as they are indexed."""
        if len(images) <= num_held_out:
            raise ValueError(
                f"Expected more images in {self.name} than the {num_held_out} held out, got {len(images)}; "
                "add images, or lower --data.val_pairs"
            )
        order = permutation(self.key, -1, len(images)).tolist()
        kept = Subset(images, sorted(order[num_held_out:]))
        held_out = Subset(images, order[:num_held_out])
        return IndexedCrops(kept, training, self.key), IndexedCrops(held_out, validation)

    def _open_dataset(self, path: Path) -> Any:
        """Open a local dataset, or one from the Hub, whose images are not decoded."""
        import datasets  # not needed to train on folders

        try:
            dataset = self._load_dataset(path)
        except (OSError, ValueError, KeyError) as error:
            raise OSError(
                f"Expected a folder of images, a local dataset, or the name of a dataset on the Hugging Face Hub, "
                f"got {self.name} ({reason_of(error, self.name)})"
            ) from error
        columns = [name for name, feature in (dataset.features or {}).items() if isinstance(feature, datasets.Image)]
        if dataset.features and self.column not in columns:
            raise ValueError(
                f"Expected a column of images in {self.name}, got {self.column}; choose from {', '.join(columns)}"
            )
        # If the stream itself decoded its images, an unreadable one would end it.
        return dataset.cast_column(self.column, datasets.Image(decode=False))

    def _load_dataset(self, path: Path) -> Any:
        import datasets  # not needed to train on folders

        if is_saved_to_disk(path):
            dataset = datasets.load_from_disk(self.name)
            if isinstance(dataset, datasets.DatasetDict):
                dataset = dataset[self.split]
            return dataset.to_iterable_dataset() if self.streaming else dataset
        if path.exists():
            files = [str(file) for file in sorted(path.rglob("*.parquet"))] or self.name
            return datasets.load_dataset("parquet", data_files=files, split="train", streaming=self.streaming)
        return load_from_hub(self.name, split=self.split, streaming=self.streaming)


def load_from_hub(name: str, **settings: Any) -> Any:
    """Open a dataset from the Hugging Face Hub; `settings` are those of `datasets.load_dataset`.

    Raises:
        FileNotFoundError: The name is that of a folder or a file, which is not looked up at the Hub.
        OSError, ValueError: There is no such dataset, or the Hub cannot be reached.
    """
    import datasets  # not needed to train on folders

    if hub.is_path(name):
        raise FileNotFoundError("no such folder or file")
    with hub.only_our_errors():
        return datasets.load_dataset(name, **settings)


def reason_of(error: Exception, name: str) -> str:
    """Return on one line why the dataset of this name cannot be opened."""
    reason = first_line(error)
    if Path(name).exists() or hub.is_path(name):
        return reason
    return f"no such folder or file, and none found on the Hub: {reason}"


def _is_folder_of_images(path: Path) -> bool:
    return path.is_dir() and not is_saved_to_disk(path) and not any(path.rglob("*.parquet"))


def is_saved_to_disk(path: Path) -> bool:
    """Return whether `save_to_disk` of `datasets` has written this folder."""
    return (path / "state.json").exists() or (path / "dataset_dict.json").exists()
