"""`export` and `import`: a version as a folder, carried to another store and registry with equal digests.

```
version.json                      what the version is called, its tags, and the sha256 of every other file
model.onnx  model.json            byte for byte as registered
dataset/manifest.json             of the dataset that it was made from, where the store has it; chips stay behind
evaluations/<dataset>/<key>/...   its evaluations, reports and verdicts
```
"""

from __future__ import annotations

import logging
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from eo_data.digests import canonical_json, sha256
from eo_data.errors import DataRefused, UsageError
from eo_data.model.files import (
    DESCRIPTION_FILE,
    DESCRIPTION_TAG,
    GRAPH_FILE,
    GRAPH_TAG,
    ModelFiles,
    fetch_model,
)
from eo_data.store import Store, local_path
from eo_data.usecase import VALID_NAME
from eo_models.registry import Registry

log = logging.getLogger(__name__)

LIST: Final = "version.json"
MANIFEST: Final = "dataset/manifest.json"
_EVALUATIONS: Final = "evaluations"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class Exported(BaseModel):
    """`version.json`.

    Attributes:
        name: The registered model.
        version: Its number where it was exported; the other registry counts for itself.
        run: The run that made it there.
        tags: As registered, both digests among them.
        files: sha256 of every other file, by path inside the folder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    name: str
    version: int
    run: str
    tags: dict[str, str]
    files: dict[str, str]


def export_version(store: Store, model: str, out: str) -> dict[str, Any]:
    """Write a version with its dataset's manifest and its evaluations into a new folder, whole or not at all.

    Args:
        store: Whose ledger resolves `@champion`, and where manifest and evaluations lie.
        model: `models:/NAME/VERSION` or `models:/NAME@champion`.
        out: The folder; it must not be there, or be empty.

    Returns:
        The step's result: `folder`, `model`, `digest`, `description_digest`, `files` (how many), `evaluations`.

    Raises:
        UsageError: If the folder holds something.
        DataRefused: If there is no such version, or its files are not what was registered.
        TemporaryFailure: If store or registry do not answer.
    """
    folder = local_path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError("this is there already, and not empty", where=str(folder), fix="Name a new folder")
    files = fetch_model(model, store)
    version = next(v for v in Registry(files.name).versions() if v.number == files.version)
    contents = {GRAPH_FILE: files.graph, DESCRIPTION_FILE: files.text}
    contents |= _manifest(store, files.description.dataset_digest)
    evaluations = f"evaluations/{files.digest}"
    contents |= {
        f"{_EVALUATIONS}/{key.removeprefix(f'{evaluations}/')}": store.get(key) for key in store.list(evaluations)
    }
    listed = Exported(
        name=files.name,
        version=files.version,
        run=files.run,
        tags=dict(version.tags),
        files={name: sha256(data) for name, data in contents.items()},
    )
    with _new_folder(folder) as draft:
        for name, data in {**contents, LIST: canonical_json(listed.model_dump(mode="json"))}.items():
            path = draft / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    log.info("export: %s with %d files to %s", files.uri, len(contents), folder)
    return {
        "folder": folder.as_uri(),
        "model": files.uri,
        "digest": files.digest,
        "description_digest": files.description_digest,
        "files": len(contents),
        "evaluations": sum(1 for name in contents if name.endswith("/evaluation.json")),
    }


def import_version(store: Store, source: str) -> dict[str, Any]:
    """Register an exported version here, with its tags, and put its evaluations into the store.

    The ledger is not touched: a version becomes champion by `evaluate` and `promote` alone, and verdicts stay in the
    folder, since they were given for another ledger. The manifest goes below `imports/`: a dataset without its chips
    is none. What is there already is left as it is.

    Args:
        store: Where evaluations and manifest go.
        source: The folder.

    Returns:
        The step's result: `model`, `version`, `digest`, `description_digest`, `run`, `existing`.

    Raises:
        DataRefused: If the folder is no export, or a file of it is missing, strange or another one.
        TemporaryFailure: If store or registry do not answer.
    """
    folder = local_path(source)
    listed, contents = read_export(folder)
    files = ModelFiles.of(listed.name, listed.version, listed.run, contents[GRAPH_FILE], contents[DESCRIPTION_FILE])
    _require_same(listed, files, folder)
    for name, data in sorted(contents.items(), key=lambda one: one[0].endswith("/evaluation.json")):
        if name.startswith(f"{_EVALUATIONS}/") and not PurePosixPath(name).name.startswith("verdict-"):
            store.put_new(f"evaluations/{files.digest}/{name.removeprefix(f'{_EVALUATIONS}/')}", data)
    if MANIFEST in contents:
        store.put_new(_imported_manifest(files.description.dataset_digest), contents[MANIFEST])
    registry = Registry(listed.name)
    version = registry.find(listed.tags)
    existing = version is not None
    if version is None:
        origin = {"terraloop.imported.model": files.uri, "terraloop.imported.run": listed.run}
        with registry.run(f"import of {files.label}", {**listed.tags, **origin}) as run:
            run.log_metrics(files.description.metrics)
            if MANIFEST in contents:
                run.log_files({"manifest.json": contents[MANIFEST]}, "dataset")
            version = registry.register(run, files.graph, files.description, listed.tags, files.text)
        fetch_model(version.uri)  # what arrived is what was sent, or it is said here
    log.info("import: %s is %s here", files.uri, version.uri)
    return {
        "model": version.uri,
        "version": version.number,
        "digest": version.digest,
        "description_digest": version.description_digest,
        "run": version.run,
        "existing": existing,
    }


def read_export(folder: Path) -> tuple[Exported, dict[str, bytes]]:
    """What a folder lists, and the bytes of the files, each held against its sha256.

    Raises:
        DataRefused: If it is no export, or a file is missing, strange or another one.
    """
    fix = "Export the version again, and copy the whole folder"
    try:
        listed = Exported.model_validate_json((folder / LIST).read_bytes())
    except (OSError, ValidationError) as error:
        raise DataRefused(f"this is no exported version (no valid {LIST})", where=str(folder), fix=fix) from error
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    del found[LIST]
    links = [name for name, path in found.items() if path.is_symlink()]
    outside = [name for name in listed.files if not _is_inside(name)]
    differing = sorted({*found.keys() ^ listed.files.keys(), *links, *outside})
    if differing or not {GRAPH_FILE, DESCRIPTION_FILE} <= found.keys():
        raise DataRefused(f"files are missing or strange: {', '.join(differing[:5])}", where=str(folder), fix=fix)
    contents = {name: (folder / name).read_bytes() for name in sorted(found)}
    changed = [name for name, data in contents.items() if sha256(data) != listed.files[name]]
    if changed:
        raise DataRefused(
            f"not the file that was exported: {', '.join(changed[:5])} (sha256 differs)", where=str(folder), fix=fix
        )
    return listed, contents


def _require_same(listed: Exported, files: ModelFiles, folder: Path) -> None:
    """Refuse a folder whose list was made for other files: the tags are the older witness."""
    tags = {GRAPH_TAG: files.digest, DESCRIPTION_TAG: files.description_digest}
    for tag, digest in tags.items():
        if listed.tags.get(tag) != digest:
            raise DataRefused(
                f"tag {tag} is of another file than the one here ({digest[:12]})",
                where=str(folder),
                fix="Export the version again",
            )
    if files.description.name != listed.name or not VALID_NAME.fullmatch(listed.name):
        raise DataRefused(
            f"model.json is of '{files.description.name}', the version of '{listed.name}'",
            where=str(folder),
            fix="Export the version again",
        )
    if not _DIGEST.fullmatch(files.description.dataset_digest):
        raise DataRefused("model.json names no dataset digest", where=str(folder), fix="Export the version again")


def _manifest(store: Store, digest: str) -> dict[str, bytes]:
    for key in (f"datasets/{digest}/manifest.json", _imported_manifest(digest)):
        if store.exists(key):
            return {MANIFEST: store.get(key)}
    log.warning("export: the manifest of dataset %s is not in the store, and stays behind", digest[:12])
    return {}


def _imported_manifest(digest: str) -> str:
    return f"imports/datasets/{digest}/manifest.json"


def _is_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not PurePosixPath(name).is_absolute() and ".." not in parts


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside the one wanted, renamed to it at the end."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise UsageError(
            f"no folder can be made here ({error.strerror})", where=str(folder), fix="Name another one"
        ) from error
    try:
        yield draft
        draft.chmod(0o755)
        draft.replace(folder)  # over an empty folder too
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
