"""torchvision's ImageFolder in a PyTorch DataLoader."""

from pathlib import Path

from benchmarks.clock import BATCH
from benchmarks.made import Images, write_folder
from benchmarks.peers import Opened, torch_workers

write = write_folder


def epochs(folder: Path, data: Images) -> Opened:
    """Decode, make a tensor, normalize."""
    from torch.utils.data import DataLoader
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    steps = [transforms.Grayscale()] if data.x.shape[-1] == 1 else []
    scaling = transforms.Normalize((data.mean / 255).tolist(), (data.std / 255).tolist())
    rows = ImageFolder(str(folder), transforms.Compose([*steps, transforms.ToTensor(), scaling]))
    loader = DataLoader(rows, BATCH, shuffle=True, **torch_workers(data))
    return lambda k: loader
