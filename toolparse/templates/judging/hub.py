"""Models on the hub: the few small files that tell how a model writes, through `huggingface_hub`."""

from __future__ import annotations

from pathlib import Path

from toolparse.errors import SourceError
from toolparse.registry import by_model, hub_address

#: What is fetched: never weights, and never tokenizer.json, which is large and says nothing more of the format.
FILES = (
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer_config.json",
    "config.json",
    "additional_chat_templates/*.jinja",
)


def folder_of(model: str) -> Path:
    """The folder of the local cache with the files of `model`, fetched where they are not there.

    `model` may name a revision behind an `@`, as addresses of `huggingface_hub` do: a branch, a tag or a commit.
    The cache, `HF_HUB_OFFLINE`, `HF_ENDPOINT` and tokens are those of `huggingface_hub`. Raises SourceError, with what
    happened and what to do, where they can't be had.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise SourceError(
            f"{model!r} is no file or folder here, and models on the hub need huggingface_hub: "
            "pip install 'toolparse[hub]'"
        ) from error
    repository, revision = hub_address(model)
    cached = _cached(repository, revision)
    if cached is not None:
        return cached
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(FILES)))
    except Exception as error:  # whatever a hub answers, garbage among it, is no fault of the caller
        raise SourceError(f"{model!r} is no file or folder here, and {_why(error)}{_listed(repository)}") from error


def _cached(repository: str, revision: str | None) -> Path | None:
    """The folder of the local cache, if a template is in it."""
    from huggingface_hub import try_to_load_from_cache

    for name in FILES[:3]:
        found = try_to_load_from_cache(repository, name, revision=revision)
        if isinstance(found, str) and "chat_template" in (name + Path(found).read_text("utf-8", "replace")):
            return Path(found).parent
    return None


def _why(error: BaseException) -> str:
    """What went wrong between us and the hub, in the words of whoever has to mend it."""
    causes: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in causes:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    kinds = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    answers = [getattr(getattr(cause, "response", None), "status_code", None) for cause in causes]
    status = next((answer for answer in answers if answer is not None), None)
    if "OfflineModeIsEnabled" in kinds:
        return "it is not in the local cache, and HF_HUB_OFFLINE keeps from asking the hub"
    if "GatedRepoError" in kinds or status == 403:
        return "the hub does not show it to everybody: accept its terms there, and log in with `hf auth login`"
    if "RevisionNotFoundError" in kinds:
        return "the model on the hub has no such revision: look at its branches, tags and commits"
    if "RepositoryNotFoundError" in kinds or status in (401, 404):
        return "the hub knows no such model, or it is private: look at the spelling, or log in with `hf auth login`"
    if status is not None:
        return f"the hub answered {status}: try again later, or give a folder"
    if kinds & {"ConnectError", "ConnectionError", "TimeoutException", "Timeout", "ProxyError", "NetworkError"}:
        return "the hub can't be reached: look at the network and HF_ENDPOINT, or give a folder"
    if isinstance(error, OSError) and error.errno is not None:
        return f"its files can't be kept: {error.strerror}"
    return f"what the hub answered makes no sense ({type(error).__name__}); look at HF_ENDPOINT, or give a folder"


def _listed(repository: str) -> str:
    name = repository.rpartition("/")[2]
    found = by_model(name)
    return "" if found is None else f". {name!r} alone is read as {found[0].name!r}, which nothing proves"
