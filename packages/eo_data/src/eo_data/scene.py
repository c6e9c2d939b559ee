"""A scene: a STAC item and its raster in the store, opened as a lazy `xarray.Dataset`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eo_data.errors import DataRefused
from eo_data.rasters import ImageRaster, open_image
from eo_data.store import Store
from eo_data.usecase import DataSection

if TYPE_CHECKING:
    import pystac
    import xarray as xr

IMAGE_ASSET: Final = "image"
SIMULATED: Final = "terraloop:simulated"
PLACE: Final = "terraloop:place"
SOURCE_SPLIT: Final = "terraloop:split"
GRID: Final = "terraloop:grid"
PIXELS: Final = "terraloop:pixels"
"""Item property with the digest of the decoded pixels."""


@dataclass(frozen=True)
class Scene:
    """One content of one scene in the store.

    Attributes:
        store: Where it lies.
        collection: Its STAC collection.
        id: Its STAC id.
        content: Short hash of its pixels, grid and radiometry; a scene reissued under its id has another.
        item: Its STAC item, as JSON.
    """

    store: Store
    collection: str
    id: str
    content: str
    item: dict[str, Any]

    @property
    def key(self) -> str:
        """Its folder in the store."""
        return f"scenes/{self.collection}/{self.id}/{self.content}"

    @property
    def uri(self) -> str:
        """The URI of its STAC item."""
        return self.store.resolve(f"{self.key}/item.json")

    @property
    def properties(self) -> dict[str, Any]:
        """The item's properties."""
        return dict(self.item["properties"])

    @property
    def grid(self) -> str:
        """Its grid in words that are equal for equal grids."""
        return str(self.item["properties"][GRID])

    @property
    def asset(self) -> dict[str, Any]:
        """The image asset's fields."""
        return dict(self.item["assets"][IMAGE_ASSET])

    @property
    def band_names(self) -> tuple[str | None, ...]:
        """The raster's bands as the item names them; None for a band without a name."""
        return tuple(band.get("name") for band in self.asset["bands"])

    @property
    def simulated(self) -> bool:
        """Whether its pixels were simulated."""
        return bool(self.properties.get(SIMULATED))

    def stac(self) -> pystac.Item:
        """The item as pystac's, its hrefs absolute."""
        import pystac

        item = pystac.Item.from_dict(self.item)
        item.set_self_href(self.uri)
        return item

    @property
    def raster_path(self) -> str:
        """What rasterio opens."""
        return self.store.raster_path(f"{self.key}/{self.asset['href'].removeprefix('./')}")

    def open(self) -> xr.Dataset:
        """The scene as a lazy dataset: a variable per band `(y, x)`, sensor values, named as the item names them.

        The CRS is that of the raster (`.rio.crs` or `.odc.geobox`), absent where it has none. Pixels are read
        when they are computed.
        """
        import warnings

        import rioxarray
        from rasterio.errors import NotGeoreferencedWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            array = rioxarray.open_rasterio(self.raster_path, chunks={"x": 1024, "y": 1024}, masked=False)
        names = [name or f"band_{number}" for number, name in enumerate(self.band_names, start=1)]
        dataset: xr.Dataset = array.assign_coords(band=names).to_dataset(dim="band")  # type: ignore[union-attr]
        return dataset.assign_attrs(id=self.id, collection=self.collection, simulated=int(self.simulated))

    @contextmanager
    def image(self, data: DataSection) -> Iterator[ImageRaster]:
        """The scene's input bands as reflectance, window by window (see `open_image`)."""
        with open_image(
            self.raster_path,
            data,
            where=self.id,
            asset=self.asset,
            properties=self.properties,
            bands=self.band_names,
        ) as image:
            yield image

    @classmethod
    def load(cls, store: Store, key: str) -> Scene:
        """Read a scene by the key or URI of its item or folder."""
        folder = store.key(key).removesuffix("/item.json")
        parts = folder.split("/")
        if len(parts) != 4 or parts[0] != "scenes":
            raise DataRefused(
                "this is no scene of the store", where=key, fix="Scenes lie at scenes/COLLECTION/ID/CONTENT"
            )
        return cls(store, parts[1], parts[2], parts[3], store.get_json(f"{folder}/item.json"))

    @classmethod
    def find(cls, store: Store, id_or_uri: str) -> Scene:
        """Read a scene by id (its newest content) or by URI.

        Raises:
            DataRefused: If there is none.
        """
        if "/" in id_or_uri:
            return cls.load(store, id_or_uri)
        found = newest([scene for scene in list_scenes(store) if scene.id == id_or_uri])
        if not found:
            raise DataRefused("there is no scene of this id in the store", where=id_or_uri, fix="Ingest it first")
        return found[0]


def list_scenes(store: Store) -> list[Scene]:
    """Every scene of the store, all contents, sorted by collection, id and content."""
    return [Scene.load(store, key) for key in store.list("scenes") if key.endswith("/item.json")]


def newest(scenes: list[Scene]) -> list[Scene]:
    """One scene per id, sorted by id: the content that came last (item property `created`, then content)."""
    chosen: dict[str, Scene] = {}
    for scene in sorted(scenes, key=lambda s: (str(s.properties.get("created", "")), s.content)):
        chosen[scene.id] = scene
    return [chosen[id_] for id_ in sorted(chosen)]
