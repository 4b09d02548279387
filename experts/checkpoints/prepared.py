"""Opens a prepared checkpoint without network, verifies it, and compares it with the others of its family."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from experts.checkpoints.fingerprint import differences, fingerprint, read_json
from experts.checkpoints.manifest import AGAIN, check_hashes, check_sizes, read_manifest
from experts.checkpoints.peft import read_adapter
from experts.checkpoints.tensor_headers import read_headers
from experts.errors import CheckpointError, CheckpointMismatch, CheckpointMissing, CheckpointUnreadable
from experts.progress import Progress, silent
from experts.spec import CheckpointSource, Expert, ExpertConfig, Generation, GenerationConfig, Task


def open_expert(
    name: str,
    config: ExpertConfig,
    store: Path,
    base: CheckpointSource | None = None,
    task: Task = "generate",
    *,
    weights: bool = True,
) -> Expert:
    """Reads the expert as prepared in ``store``, small files only. ``base``: the base of a family of LoRA
    experts. ``task``: its family's. ``weights``: they have to be there.

    Raises CheckpointMissing when it is not prepared or was prepared from another source, CheckpointUnreadable
    when a file is cut or malformed."""
    folder = folder_of(name, store)
    manifest = read_manifest(folder)
    if (manifest.source, manifest.base) != (config.checkpoint, base):
        raise CheckpointMissing(
            f"expert {name} was prepared from another source than the configuration names; {AGAIN}"
        )
    made = manifest if base is None else read_manifest(store / base_name(config.family))
    if made.fingerprint != manifest.fingerprint:
        raise CheckpointMismatch(f"expert {name} was prepared beside another base than is there now; {AGAIN}")
    if weights:
        check_sizes(folder, manifest)
    counted = config.parameters_billion
    return Expert(
        name=name,
        family=config.family,
        folder=folder,
        weights_bytes=manifest.weights_bytes,
        parameters=manifest.parameters if counted is None else round(counted * 1e9),
        fingerprint=manifest.fingerprint,
        chat_template=chat_template(folder, config.chat_template, needed=task == "generate"),
        generation=generation(folder, config.generation),
        canary=manifest.canary if task == "generate" else None,
        description=config.description,
        pinned=config.pinned,
        default=config.default,
        ttl_s=config.ttl_s,
        capabilities=config.capabilities,
        task=task,
        checksums={name: record.checksum for name, record in manifest.files.items() if record.checksum},
    )


def verify(name: str, store: Path, progress: Progress = silent, base: Path | None = None) -> None:
    """Checks everything: sizes, safetensors headers against the files' lengths, hashes, fingerprint.
    ``base``: the folder of the family's base, which an adapter has to fit.

    Raises CheckpointMissing, CheckpointUnreadable or CheckpointMismatch naming the file.
    """
    folder = folder_of(name, store)
    manifest = read_manifest(folder)
    made_for = folder if base is None else base
    headers = read_headers(made_for)
    if base is not None and manifest.weights_bytes:
        read_adapter(folder).check_fits(headers)
    check_sizes(folder, manifest)
    check_hashes(folder, manifest, progress)
    if fingerprint(made_for, headers) != manifest.fingerprint:
        raise CheckpointMismatch(f"{folder}: prepared by another version of this program; {AGAIN}")


def check_families(experts: Iterable[Expert]) -> None:
    """Checks that experts of one family can take turns in one engine. Raises CheckpointMismatch naming the
    first that cannot and how it differs from the family's first expert."""
    first: dict[str, Expert] = {}
    for expert in experts:
        leader = first.setdefault(expert.family, expert)
        if expert.fingerprint != leader.fingerprint:
            difference = next(differences(leader.folder, expert.folder), f"fingerprint is outdated; {AGAIN}")
            raise CheckpointMismatch(
                f"expert {expert.name} cannot be in family {expert.family!r} with {leader.name}: "
                f"{difference}; give it a family of its own"
            )


def base_name(family: str) -> str:
    """Returns the name in the store of the base of a family of LoRA experts."""
    return f"{family}.base"


def folder_of(name: str, store: Path) -> Path:
    """Returns an expert's folder. Raises CheckpointError for a name that cannot be a folder's."""
    if not name or name != Path(name).name or name.startswith("."):
        raise CheckpointError(
            f"expert name {name!r} cannot be the name of a folder; use letters, digits, . _ -"
        )
    return store / name


def chat_template(folder: Path, override: Path | None, *, needed: bool = True) -> str:
    """Reads the configured file, else the checkpoint's own template in any of the three places that Hugging
    Face has used; empty where there is none and none is ``needed``."""
    if override is not None:
        return _read_text(override)
    if (folder / "chat_template.jinja").is_file():
        return _read_text(folder / "chat_template.jinja")
    for name in ("chat_template.json", "tokenizer_config.json"):
        found = _named(_optional_json(folder / name).get("chat_template"))
        if found is not None:
            return found
    if not needed:
        return ""
    raise CheckpointMissing(f"{folder}: the checkpoint has no chat template; set the expert's chat_template")


def generation(folder: Path, override: GenerationConfig) -> Generation:
    """Reads the sampling defaults of generation_config.json, over which the configuration's go; every end
    token stops."""
    path = folder / "generation_config.json"
    saved = _optional_json(path)
    end = saved.get("eos_token_id", read_json(folder / "config.json").get("eos_token_id"))
    try:
        own = GenerationConfig(
            temperature=saved.get("temperature"),
            top_p=saved.get("top_p"),
            top_k=-1 if saved.get("top_k") == 0 else saved.get("top_k"),
            repetition_penalty=saved.get("repetition_penalty"),
        )
        stop = _token_ids(end)
    except (TypeError, ValueError) as error:
        raise CheckpointUnreadable(f"{path}: {_first_line(error)}; correct the file") from None
    values: dict[str, Any] = own.model_dump() | override.model_dump(exclude_none=True)
    return Generation(stop_token_ids=stop, **values)


def _token_ids(end: Any) -> tuple[int, ...]:
    match end:
        case None:
            return ()
        case int():
            return (end,)
    return tuple(int(token) for token in end)


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error)


def _named(template: Any) -> str | None:
    """Chooses the template called ``default``, which is for chat, where a checkpoint has several."""
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CheckpointMissing(f"{path}: no such chat template") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointUnreadable(f"{path}: cannot be read as text: {error}") from error
