"""Models in GGUF files (llama.cpp): converted once into a cached folder of safetensors, then like any other.

The weights come out in float32 as the file's (mostly quantised) numbers say; training goes on from
those. Tokenizer, chat template and special tokens come from the file too.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.files.cache import cached_folder
from tunesmith.files.known_hashes import known_hash
from tunesmith.files.source_hash import source_hash
from tunesmith.models.failures import explained
from tunesmith.models.quiet import quiet
from tunesmith.types import InputError, MissingExtraError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

MAGIC = b"GGUF"

# How a byte-level vocabulary cuts text before its merges apply (`tokenizer.ggml.pre`). GPT-2's way is
# what `transformers` falls back to; these cut digits apart first, which it does not know.
_PLAIN = frozenset({"default", "gpt-2", "gpt2", "jais", "mpt", "olmo", "phi-2", "roberta-bpe"})
_DIGITS_APART = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell"})


def convert_gguf(path: Path) -> tuple[Path, str]:
    """Return a cached folder with the file's model, and the SHA-256 of the file.

    The folder holds float32 safetensors, config, tokenizer and generation settings.

    Raises ``InputError`` when the file is damaged, one of several parts, of an architecture that
    ``transformers`` cannot read from GGUF, or cuts text in a way unknown to it;
    ``MissingExtraError`` without the package ``gguf``.
    """
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise InputError(f"The model file {path} is no GGUF file: it does not begin with 'GGUF'.")
    if find_spec("gguf") is None:
        raise MissingExtraError(f"The model file {path.name}", "gguf", "gguf")
    sha256 = known_hash(path)
    key = f"{path.stem[:80]}-{sha256[:16]}-{source_hash(__name__)[:8]}"
    return cached_folder("converted", key, lambda folder: _convert(path, folder)), sha256


def _convert(path: Path, folder: Path) -> None:
    from transformers import AutoConfig, AutoTokenizer

    with _alone(path) as place, _reading(path):
        config = AutoConfig.from_pretrained(place, gguf_file=path.name, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=path.name, local_files_only=True)
        _split_as_trained(tokenizer, path)
        model = _load(place, path, config)
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            raise InputError(f"The model file {path} has more tokens than embeddings.", "Download it again.")
        model.save_pretrained(folder)
        tokenizer.init_kwargs = {key: value for key, value in tokenizer.init_kwargs.items() if key not in _OF_THE_FILE}
        tokenizer.save_pretrained(folder)


def _load(place: Path, path: Path, config: PretrainedConfig) -> Any:
    """Return a plain model in float32 with the file's weights; ``InputError`` when some are missing."""
    import torch
    import transformers

    auto_class = getattr(transformers, _auto_class(config))
    unpacked = {"quantization_config": transformers.GgufConfig(dequantize=True)} if _may_stay_packed() else {}
    loaded, found = auto_class.from_pretrained(
        place,
        gguf_file=path.name,
        dtype=torch.float32,
        local_files_only=True,
        output_loading_info=True,
        **unpacked,
    )
    names = {name for name, _ in loaded.named_parameters()}
    wrong = sorted({*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])} & names)
    if wrong:
        raise InputError(
            f"The model file {path} is no complete {type(loaded).__name__}: {len(wrong)} weights are missing or of "
            f"another shape ({', '.join(wrong[:3])}{', …' if len(wrong) > 3 else ''}).",
            "Give a file that holds the whole model; parts (-00001-of-0000N) must be joined first.",
        )
    # What was loaded counts as quantised even when it no longer is, and could not be saved.
    vars(config).pop("_model_name_or_path", None)  # a title, which loaders would take for a hub id
    with torch.device("meta"):
        plain = auto_class.from_config(config)
    plain.load_state_dict(loaded.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = loaded.generation_config
    return plain


def _may_stay_packed() -> bool:
    """Whether the installed ``transformers`` can keep weights quantised as they are in the file."""
    import transformers

    return hasattr(transformers, "GgufConfig")


_OF_THE_FILE = ("vocab_file", "name_or_path", "is_local", "local_files_only")


def _auto_class(config: PretrainedConfig) -> str:
    """Return the widest model class that the config's type has: what the file holds is a language model mostly."""
    import transformers

    for name in ("AutoModelForCausalLM", "AutoModelForSeq2SeqLM"):
        if type(config) in getattr(transformers, name)._model_mapping:
            return name
    return "AutoModel"


def _split_as_trained(tokenizer: PreTrainedTokenizerBase, path: Path) -> None:
    """Make a byte-level tokenizer cut text as its model was trained to; ``InputError`` when nobody knows how.

    A text cut in another way gives tokens that the model never saw in such places: it would still
    run, only worse.
    """
    from tokenizers import pre_tokenizers

    kind, splitting = _tokenizer_kind(path)
    if kind != "gpt2" or splitting in {*_PLAIN, *_known_splittings()}:
        return
    if splitting not in _DIGITS_APART:
        raise InputError(
            f"The model file {path} cuts text in a way that is not known here (tokenizer.ggml.pre: {splitting!r}).",
            "Give the folder or hub id of the same model, with its tokenizer.json.",
        )
    backend: Any = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def _tokenizer_kind(path: Path) -> tuple[str, str]:
    from gguf import GGUFReader

    fields = GGUFReader(path).fields
    kind, splitting = (
        str(fields[key].contents()) if key in fields else default
        for key, default in (("tokenizer.ggml.model", ""), ("tokenizer.ggml.pre", "default"))
    )
    return kind, splitting


def _known_splittings() -> set[str]:
    """Return the ways of cutting text that the installed ``transformers`` knows by name."""
    try:
        from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS
    except ImportError:  # an older release, which cuts every text in GPT-2's way
        return set()
    return set(GGUF_PRE_TOKENIZER_SPLITS)


@contextmanager
def _alone(path: Path) -> Iterator[Path]:
    """Give the file a folder of its own: loaders would read what config files they find beside it."""
    with tempfile.TemporaryDirectory(prefix="tunesmith-") as folder:
        link = Path(folder) / path.name
        try:
            link.symlink_to(path.resolve())
        except OSError:  # where links need a privilege
            shutil.copyfile(path, link)
        yield Path(folder)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Explain whatever reading a file raises; keep progress bars quiet, one that no setting reaches among them."""
    fix = "Download it again, or give the model as a folder of safetensors."
    with explained(f"The model file {path} cannot be read", fix), quiet(), contextlib.redirect_stderr(io.StringIO()):
        yield
