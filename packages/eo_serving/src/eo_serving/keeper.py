"""Which version this endpoint serves: at the start, on request, and after its MLServer had to be started again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eo_data.errors import DataRefused, TemporaryFailure, TerraloopError
from eo_data.step import write_atomically
from eo_serving.declaration import declared
from eo_serving.versions import KeptVersion, Versions, read_version

if TYPE_CHECKING:
    from eo_data.model.files import ModelFiles
    from eo_data.model.ledger import Promotion
    from eo_data.usecase import UseCase
    from eo_serving.backend import Backend

log = logging.getLogger(__name__)

_SERVED_FILE: Final = "served.json"


class Keeper:
    """Keeps one version of a model in service.

    Args:
        usecase: The use case that is served.
        backend: Where versions are loaded.
        versions: Where they come from.
        state: Folder in which the choice outlives this process.
        shadow: URI of a challenger that is asked beside it; None without one.
    """

    def __init__(
        self, usecase: UseCase, backend: Backend, versions: Versions, state: Path, shadow: str | None = None
    ) -> None:
        self._usecase = usecase
        self._backend = backend
        self._versions = versions
        self._file = state / _SERVED_FILE
        self._lock = asyncio.Lock()
        self.current: KeptVersion | None = None
        self.files: ModelFiles | None = None
        self._pinned = False
        self._refused: int | None = None
        """Entry of the ledger whose version is not put into service: it was refused, or rolled back."""
        self._previous: tuple[KeptVersion, bool] | None = None
        """The version before, and whether it was pinned."""
        self._shadow_uri = shadow
        self._shadow: KeptVersion | None = None

    async def reload(self, uri: str | None) -> dict[str, Any]:
        """Put a version into service; the one before answers until the new one has passed its test.

        Args:
            uri: A version, which stays through restarts; None follows the ledger's champion.

        Returns:
            `model`, `version`, `uri`, `digest`, `run`, and `previous`, the URI of the one before or None.

        Raises:
            TerraloopError: If it is refused or out of reach; the one before goes on answering.
        """
        async with self._lock:
            version = await asyncio.to_thread(self._versions.obtain, uri)
            previous = self.current
            await self._load(version)
            if previous is not None and previous.digest != version.digest:
                self._previous = (previous, self._pinned)
            await self._remember(version, pinned=uri is not None and "@" not in uri, refused=None)
            before = self._previous[0] if self._previous else None
            kept = [one for one in (version, previous, before, self._shadow) if one is not None]
            await asyncio.to_thread(self._versions.prune, *kept)
        log.info("%s answers now (model digest %s)", version.label, version.digest)
        return {**described(version), "previous": previous.uri if previous else None}

    async def roll_back(self) -> dict[str, Any]:
        """Put the version before into service again, and be as before: what followed the ledger follows it on.

        The champion of now is not taken again; the next one is.

        Returns:
            As `reload`.

        Raises:
            DataRefused: If there is no version before.
            TerraloopError: If it cannot be loaded.
        """
        async with self._lock:
            if self._previous is None:
                raise DataRefused("there is no version before", where="rollback", fix="Deploy one by its number")
            (version, pinned), leaving = self._previous, self.current
            champion = None if pinned else await asyncio.to_thread(self._versions.champion)
            await self._load(version)
            self._previous = None
            await self._remember(version, pinned=pinned, refused=champion.number if champion else None)
        log.warning("%s answers again", version.label)
        return {**described(version), "previous": leaving.uri if leaving else None}

    async def _remember(self, version: KeptVersion, *, pinned: bool, refused: int | None) -> None:
        self._pinned, self._refused = pinned, refused
        record = {"pinned": pinned, "refused": refused, "version": asdict(version)}
        await asyncio.to_thread(write_atomically, self._file, json.dumps(record).encode())

    async def follow(self, seconds: float) -> None:
        """Put the ledger's champion into service whenever it changes, until this is cancelled.

        A request to reload is a hint, the ledger is the truth: what a lost hint left undone is done here. A version
        that was asked for by its number stays. A champion that is refused is not tried again; the log says so.

        Args:
            seconds: Between two looks at the ledger.
        """
        trouble = ""
        while True:
            await asyncio.sleep(seconds)
            if self._pinned or not self._backend.live or self._lock.locked():
                continue
            champion = None
            try:
                champion = await asyncio.to_thread(self._versions.champion)
                trouble = ""
                if champion is not None and champion.number != self._refused and not self._answers(champion):
                    log.info("%s is champion now", champion.uri)
                    await self.reload(None)
            except TemporaryFailure as error:
                if trouble != (trouble := str(error)):
                    log.warning("the champion cannot be followed for now: %s", error)
            except Exception as error:
                self._refused = champion.number if champion else None
                if trouble != (trouble := str(error)):
                    log.error("the champion is not put into service; the version before goes on answering: %s", error)

    def _answers(self, champion: Promotion) -> bool:
        if self.current is None or not self._backend.loaded:
            return False
        wanted = (champion.version, champion.model_digest, champion.description_digest)
        return (self.current.version, self.current.digest, self.current.description_digest) == wanted

    async def restore(self) -> None:
        """Put back what was served before a restart: a pinned version, else the champion, else what lies here.

        Whatever fails is logged, and does not stop the server: it answers 503 until a version is deployed.
        """
        kept, pinned, refused = await asyncio.to_thread(self._remembered)
        self._pinned, self._refused = pinned, refused
        try:
            if kept is not None and refused is not None and await self._is_champion(refused):
                await self._load(kept)  # as after the rollback
                return
            await self.reload(kept.uri if kept and pinned else None)
            return
        except TerraloopError as error:
            log.warning("no version can be put into service: %s", error)
        except Exception:
            log.exception("no version can be put into service")
        if kept is not None and await self._loaded(kept):
            log.warning("%s answers, as before the restart", kept.label)

    async def _is_champion(self, number: int) -> bool:
        champion = await asyncio.to_thread(self._versions.champion)
        return champion is not None and champion.number == number

    async def prefetch(self) -> None:
        """Fetch the champion while MLServer starts; `resume` says what is wrong where this fails."""
        if self.current is None:
            with contextlib.suppress(Exception):
                await asyncio.to_thread(self._versions.obtain, None)

    async def resume(self) -> None:
        """Load the current version once more, into a MLServer that was started again."""
        if self.current is None:
            await self.restore()
        else:
            await self._loaded(self.current)

    async def _loaded(self, version: KeptVersion) -> bool:
        try:
            async with self._lock:
                await self._load(version)
        except TerraloopError as error:
            log.error("%s cannot be loaded: %s", version.label, error)
            return False
        return True

    async def _load(self, version: KeptVersion) -> None:
        folder = self._versions.path(version)
        files = await asyncio.to_thread(read_version, folder)
        await self._fetch_shadow()
        await self._backend.load(
            self._usecase.name,
            folder,
            Path(self._usecase.source),
            declared(files.description, version.version),
            None if self._shadow is None else self._versions.path(self._shadow),
        )
        self.current, self.files = version, files

    async def _fetch_shadow(self) -> None:
        """The challenger, as its URI names it now; without it the champion answers all the same."""
        if self._shadow_uri is None:
            return
        try:
            self._shadow = await asyncio.to_thread(self._versions.obtain, self._shadow_uri)
        except TerraloopError as error:
            log.error("the challenger cannot be had: %s", error)

    def _remembered(self) -> tuple[KeptVersion | None, bool, int | None]:
        try:
            record = json.loads(self._file.read_text(encoding="utf-8"))
            version = KeptVersion(**record["version"])
            read_version(self._versions.path(version))
        except (OSError, ValueError, TypeError, KeyError, DataRefused):
            return None, False, None
        return version, bool(record.get("pinned")), record.get("refused")


def described(version: KeptVersion) -> dict[str, Any]:
    """A version as the front names it in JSON."""
    return {
        "model": version.label,
        "version": version.version,
        "uri": version.uri,
        "digest": version.digest,
        "run": version.run,
    }
