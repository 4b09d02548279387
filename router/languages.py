"""Tells the language of prompts, for experts of languages: py3langid (Lui and Baldwin, 2012), the extra
``languages``, whose model of some 130 languages comes in its package.

The shipped embedders read English alone, so that other languages are doubted and go to ``general``. Where a
language has an expert, that one answers instead.
"""

import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from router.errors import MappingError

LEAST = 0.5
"""Probability from which a language is believed. Of 13,730 English prompts, of which many are code, formulas
and lists, none was taken for one of ten other languages at it (docs/benchmarks/router.md)."""
_CHARACTERS = 1000
"""Characters that are read: more say nothing new."""


class Languages:
    """Safe to call from several threads. Takes some tenths of a millisecond a prompt."""

    def __init__(self, experts: Mapping[str, str]) -> None:
        """``experts``: ISO 639 code of a language to its expert. Raises MappingError for a code that is not
        known, and where py3langid is not installed."""
        if importlib.util.find_spec("py3langid") is None:
            raise MappingError(
                "languages are told by py3langid, which is not installed: "
                "pip install 'composition-of-experts[languages]'"
            )
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        self._told: Any = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
        self.experts = dict(experts)
        unknown = sorted({*experts} - {*self._told.labels})
        if unknown:
            known = ", ".join(sorted(self._told.labels))
            raise MappingError(f"no language {', '.join(map(repr, unknown))}; there are {known}")

    def expert_of(self, prompts: Sequence[str]) -> str | None:
        """The expert of the language of the last of ``prompts`` that says which it is: a short one, or a
        number, is in the language of those before it. None: that has no expert, or none says."""
        for prompt in reversed(prompts):
            language, probability = self._told.classify(prompt[:_CHARACTERS])
            if probability >= LEAST:
                return self.experts.get(language)
        return None

    def __repr__(self) -> str:
        return f"<Languages {', '.join(f'{code} -> {name}' for code, name in self.experts.items())}>"
