"""Simulated Sentinel-2 L1C-like scenes with labels: the offline default and the load generator.

Everything here is simulated, and says so wherever it shows: plausible, and never a proof of quality.
"""

from eo_data.simulate.scene import SimulatedScene, simulate_scene
from eo_data.simulate.spectra import BANDS
from eo_data.simulate.stac import COLLECTION
from eo_data.simulate.writer import DEFAULT_SCENES, DEFAULT_SIZE, write_scenes

__all__ = ["BANDS", "COLLECTION", "DEFAULT_SCENES", "DEFAULT_SIZE", "SimulatedScene", "simulate_scene", "write_scenes"]
