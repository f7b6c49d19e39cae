"""A model by name, before its weights: its configuration, its tokenizer, and the commit that they come from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext

from junkdna.models import folder, hub
from junkdna.models.loading import check_tokenizer, loading_errors, own_code


class Source:
    """What all models that are loaded by name have in common.

    ``config`` and ``tokenizer`` are as transformers loads them; ``revision`` is the commit, from the Hub, or None;
    ``notes`` is what the user should know of the model, a line each. Code that comes with a model is never executed,
    and never asked about.
    """

    def __init__(
        self,
        name: str,
        revision: str,
        check: Callable[[object, Mapping], None] = lambda config, raw: None,
        least_pad: int = 0,
        here: bool | None = None,
        quiet: Callable = nullcontext,
        **more,
    ):
        """Load configuration and tokenizer; raises UserError when they cannot be had. Needs no network for a folder.

        ``check`` may refuse and change the configuration before anything else is loaded; it also gets what config.json
        holds. ``least_pad``: see ``folder.check_config``. ``here``: whether the model lies on this machine (default:
        whether its name is that of a model's folder). ``quiet`` makes the contexts in which the libraries load;
        ``more`` is passed on to them.
        """
        here = folder.is_folder(name) if here is None else here
        if not here:
            hub.reach()
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        self.name, self._path = name, name
        with loading_errors(name, here=here), quiet():
            if os.path.isdir(name) and not here:
                self._path = hub.download(name, revision)  # the libraries would look into the folder of that name
            raw, _ = transformers.PretrainedConfig.get_config_dict(self._path, revision=revision, **more)
            folder.check_config(raw, name, least_pad)
            self.config = own_code(
                raw,
                transformers.AutoConfig.from_pretrained,
                self._path,
                revision=revision,
                trust_remote_code=False,
                **more,
            )
        self.revision = None if here else hub.commit_of(name, revision, more.get("gguf_file"))
        self._from = {"revision": self.revision or revision, **more}  # one commit, even if the branch moves
        self.notes = ["code of the model's own (auto_map) is left out"] if raw.get("auto_map") else []
        check(self.config, raw)  # it may add to the notes
        with loading_errors(name, "its tokenizer ", here), quiet():
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(
                self._path, trust_remote_code=False, **self._from
            )
        check_tokenizer(self.tokenizer, self.config, name)
