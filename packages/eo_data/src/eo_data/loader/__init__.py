"""Minibatches for training: block-aware reading of GeoTIFFs or of a dataset's chips, as NumPy arrays.

```python
source = RasterSource([RasterPair("scene.tif", "label.tif")], usecase.data)
loader = ChipLoader(source, jittered_chips(source.grids, 256), minibatch=16, seed=1)
for minibatch in loader:                    # minibatch.images, .labels, .valid: buffers, overwritten by the next
    ...

source = DatasetSource(Dataset(store, uri), "train")
loader = ChipLoader(source, source.chips, minibatch=16, mean=statistics.mean, std=statistics.std)
```
"""

from eo_data.loader.chip_list import Block, ChipList, RasterGrid, grid_chips, jittered_chips
from eo_data.loader.chip_loader import ChipLoader, ChipPlace, Minibatch
from eo_data.loader.dataset_source import DatasetSource
from eo_data.loader.plan import Plan, plan_epoch
from eo_data.loader.raster_index import RasterPair
from eo_data.loader.raster_source import RasterSource

__all__ = [
    "Block",
    "ChipList",
    "ChipLoader",
    "ChipPlace",
    "DatasetSource",
    "Minibatch",
    "Plan",
    "RasterGrid",
    "RasterPair",
    "RasterSource",
    "grid_chips",
    "jittered_chips",
    "plan_epoch",
]
