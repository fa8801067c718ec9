"""Random data, in the format that the programs of catalogue.py want: `python results/programs/make_data.py FOLDER`.

FOLDER holds the checkouts. The data are small, so that a program takes seconds, and the same each time. Random weights
take the place of pretrained ones that some programs load.
"""

from __future__ import annotations

import argparse
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import torch
import torchvision
from PIL import Image

_LABELS = 10
_WEIGHTS = {"vgg16": "vgg16-397923af.pth", "resnet50": "resnet50-0676ba61.pth"}


def make_data(folder: Path) -> None:
    """Write everything that is not there yet below the folder of checkouts."""
    numbers = np.random.default_rng(0)
    data = folder / "data"
    _mnist(data / "MNIST" / "raw", numbers)
    _images(data / "classes" / "train", numbers, 64)
    _images(data / "classes" / "val", numbers, 32)
    _images(data / "CelebA", numbers, 64, side=160)
    _segmentation(data / "segmentation", numbers)
    _yolo(data / "yolo", numbers)
    _coco(data / "coco", numbers)
    _words(folder / "examples" / "word_language_model" / "data" / "wikitext-2", numbers)
    _cora(data / "cora", numbers)
    _characters(folder / "nanoGPT" / "data" / "shakespeare_char", numbers)
    _characters_text(folder / "minGPT" / "input.txt", numbers)
    _super_resolution(folder / "examples" / "super_resolution" / "dataset" / "BSDS300" / "images", numbers)
    _images(data / "many", numbers, 104, side=64)
    _weights(data / "torch_home" / "hub" / "checkpoints")
    # Some repositories look for these data in places of their own.
    for place in ("examples/data", "PyTorch-GAN/data/mnist", "Non-local_pytorch/mnist"):
        link = folder / place
        if link.parent.is_dir() and not link.exists():
            link.symlink_to(data)
    network = folder / "Pytorch-UNet" / "data"
    for kind in ("imgs", "masks"):
        if network.is_dir() and not list((network / kind).glob("*.png")):
            shutil.copytree(data / "segmentation" / kind, network / kind, dirs_exist_ok=True)


def _mnist(folder: Path, numbers: np.random.Generator) -> None:
    """Write the four files of MNIST in the format of its authors, with 1,024 images to learn and 512 to test."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, count in (("train", 1024), ("t10k", 512)):
        images = numbers.integers(0, 256, (count, 28, 28), np.uint8)
        labels = numbers.integers(0, _LABELS, count).astype(np.uint8)
        (folder / f"{name}-images-idx3-ubyte").write_bytes(struct.pack(">4i", 2051, count, 28, 28) + images.tobytes())
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(struct.pack(">2i", 2049, count) + labels.tobytes())


def _image(numbers: np.random.Generator, side: int) -> Image.Image:
    return Image.fromarray(numbers.integers(0, 256, (side, side, 3), np.uint8))


def _images(folder: Path, numbers: np.random.Generator, count: int, side: int = 128) -> None:
    """Write images in two folders that are their classes."""
    for at in range(count):
        path = folder / f"class{at % 2}" / f"{at:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        _image(numbers, side).save(path)


def _segmentation(folder: Path, numbers: np.random.Generator) -> None:
    """Write images and masks of two classes."""
    for kind in ("imgs", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for at in range(24):
        _image(numbers, 128).save(folder / "imgs" / f"{at:03}.png")
        mask = np.zeros((128, 128), np.uint8)
        mask[at : at + 60, 20:90] = 1
        Image.fromarray(mask).save(folder / "masks" / f"{at:03}.png")


def _yolo(folder: Path, numbers: np.random.Generator) -> None:
    """Write images with one to four boxes each, in the format of YOLO."""
    for kind, count in (("train", 16), ("val", 8)):
        for part in ("images", "labels"):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
        for at in range(count):
            _image(numbers, 160).save(folder / "images" / kind / f"{at:03}.jpg")
            boxes = [f"{at % 3} {0.2 + 0.2 * box:.1f} 0.5 0.2 0.3\n" for box in range(1 + at % 4)]
            (folder / "labels" / kind / f"{at:03}.txt").write_text("".join(boxes))
    names = "{0: a, 1: b, 2: c}"
    (folder / "data.yaml").write_text(f"path: {folder}\ntrain: images/train\nval: images/val\nnames: {names}\n")


def _coco(folder: Path, numbers: np.random.Generator) -> None:
    """Write images with boxes, in the format of COCO."""
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for kind, count in (("train", 4), ("val", 2)):
        (folder / f"{kind}2017").mkdir(exist_ok=True)
        images, boxes = [], []
        for at in range(1, count + 1):
            name = f"{at:012}.jpg"
            _image(numbers, 320).save(folder / f"{kind}2017" / name)
            images.append({"id": at, "file_name": name, "height": 320, "width": 320})
            for box in range(2 + at):
                corner, side = 20.0 * box, 60.0 + 10 * box
                boxes.append(
                    {
                        "id": len(boxes) + 1,
                        "image_id": at,
                        "category_id": 1 + box % 3,
                        "bbox": [corner, corner, side, side],
                        "area": side * side,
                        "iscrowd": 0,
                        "segmentation": [[corner, corner, corner + side, corner, corner + side, corner + side]],
                    }
                )
        kinds = [{"id": one, "name": f"kind{one}"} for one in (1, 2, 3)]
        text = json.dumps({"info": {}, "images": images, "annotations": boxes, "categories": kinds})
        (folder / "annotations" / f"instances_{kind}2017.json").write_text(text)


def _words(folder: Path, numbers: np.random.Generator) -> None:
    """Write three texts of 500 different words."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in (("train", 300), ("valid", 120), ("test", 120)):
        rows = (" ".join(f"w{one}" for one in numbers.integers(0, 500, 20)) for _ in range(lines))
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")


def _cora(folder: Path, numbers: np.random.Generator) -> None:
    """Write a graph of 1,700 papers with 200 words and 3,400 citations, smaller than Cora."""
    folder.mkdir(parents=True, exist_ok=True)
    words = numbers.integers(0, 2, (1700, 200))
    with (folder / "cora.content").open("w") as stream:
        for paper, row in enumerate(words):
            stream.write(f"{paper}\t" + "\t".join(map(str, row)) + f"\tkind{paper % 7}\n")
    edges = numbers.integers(0, 1700, (3400, 2))
    (folder / "cora.cites").write_text("".join(f"{a}\t{b}\n" for a, b in edges))


def _characters(folder: Path, numbers: np.random.Generator) -> None:
    """Write what nanoGPT's prepare.py makes of a text of 65 different characters."""
    import pickle

    if not folder.is_dir():
        return
    for name, count in (("train", 100_000), ("val", 10_000)):
        numbers.integers(0, 65, count).astype(np.uint16).tofile(folder / f"{name}.bin")
    letters = [chr(48 + one) for one in range(65)]
    forth, back = {c: n for n, c in enumerate(letters)}, dict(enumerate(letters))
    (folder / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": 65, "stoi": forth, "itos": back}))


def _characters_text(path: Path, numbers: np.random.Generator) -> None:
    if path.parent.is_dir():
        path.write_text("O God, O God!" + "".join(chr(48 + one) for one in numbers.integers(0, 65, 20_000)))


def _super_resolution(folder: Path, numbers: np.random.Generator) -> None:
    for kind, count in (("train", 8), ("test", 4)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for at in range(count):
            _image(numbers, 288).save(folder / kind / f"{at:03}.jpg")


def _weights(folder: Path) -> None:
    """Write random weights under the names of pretrained ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in _WEIGHTS.items():
        if not (folder / file).exists():
            torch.save(getattr(torchvision.models, name)().state_dict(), folder / file)


def main() -> None:
    """Read the folder from the command line and write the data there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder of the checkouts")
    make_data(parser.parse_args().folder.resolve())


if __name__ == "__main__":
    main()
