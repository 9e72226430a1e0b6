"""What a trained model has to beat: keyword rules, character TF-IDF with logistic regression, the untrained encoder."""

import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sidecar.repository import Answer, Taxonomy
from trainer.errors import UnlearnableError
from trainer.texts import Example

Baseline = Callable[[Sequence[str]], list[Answer]]
SEED = 17


def keyword_rules(train: Sequence[Example], taxonomy: Taxonomy, words: int = 25) -> Baseline:
    """For each motive the `words` terms that tell most for it; a text gets every motive one of whose terms it holds.

    Raises UnlearnableError where no term is in three texts.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(analyzer=terms, min_df=3, binary=True)
    counts = _counted(vectorizer, train)
    names = np.array(vectorizer.get_feature_names_out())
    lists: dict[str, list[str]] = {}
    for code in taxonomy.codes:
        has = np.array([code in e.motives for e in train])
        inside = np.asarray(counts[has].sum(axis=0)).ravel() + 0.5
        outside = np.asarray(counts[~has].sum(axis=0)).ravel() + 0.5
        share = inside / (inside + outside)
        lists[code] = names[np.argsort(-(share * np.log1p(inside)))[:words]].tolist()

    def answer(texts: Sequence[str]) -> list[Answer]:
        result = []
        for text in texts:
            held = set(terms(text))
            hits = {code: len(held & set(known)) for code, known in lists.items()}
            found = sorted((code for code, n in hits.items() if n), key=lambda code: -hits[code])[:3]
            result.append(Answer(tuple((code, 0.5) for code in found), 0.5))
        return result

    return answer


def terms(text: str) -> list[str]:
    """Words of three letters and more, of any script; of scripts written without blanks, and Hangul, the bigrams."""
    found = []
    for kind, characters in groupby(text.casefold(), _script):
        run = "".join(characters)
        if kind == "pairs":
            found += [run[i : i + 2] for i in range(len(run) - 1)]
        elif kind == "words" and len(run) >= 3:
            found.append(run)
    return found


@cache
def _script(character: str) -> str:
    name = unicodedata.name(character, "")
    if name.startswith(("CJK UNIFIED", "HIRAGANA", "KATAKANA", "HANGUL", "THAI", "LAO", "KHMER", "MYANMAR")):
        return "pairs"
    return "words" if character == "'" or unicodedata.category(character)[0] in "LM" else ""


def _counted(vectorizer: Any, train: Sequence[Example]) -> Any:
    """The texts' features [texts, terms]; raises UnlearnableError where there is no term."""
    try:
        return vectorizer.fit_transform([e.text for e in train])
    except ValueError as error:  # no term, or none that is common enough
        raise UnlearnableError(f"{len(train)} training texts are too few ({error}); add texts") from None


def tfidf(train: Sequence[Example], taxonomy: Taxonomy) -> Baseline:
    """Character 1- to 5-grams, TF-IDF, logistic regressions; raises UnlearnableError where there is nothing to fit."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(1, 5), min_df=2, sublinear_tf=True, max_features=60_000
    )
    features = _counted(vectorizer, train)
    decide = regressions(features, train, taxonomy, strength=8.0)
    return lambda texts: decide(vectorizer.transform(texts))


def encoder(
    embed: Callable[[Sequence[str]], NDArray[np.float32]], train: Sequence[Example], taxonomy: Taxonomy
) -> Baseline:
    """Logistic regressions on the vectors of an encoder that was not fine-tuned."""
    vectors = embed([e.text for e in train])
    mean, scale = vectors.mean(axis=0), vectors.std(axis=0) + 1e-6
    decide = regressions((vectors - mean) / scale, train, taxonomy, strength=0.05)
    return lambda texts: decide((embed(texts) - mean) / scale)


def zero_shot(embed: Callable[[Sequence[str]], NDArray[np.float32]], taxonomy: Taxonomy) -> Baseline:
    """The label whose name and definition, in either language, lie nearest to the text; no training at all."""
    every = (*taxonomy.motives, taxonomy.abstention)
    names = [f"{m.name_en}. {m.definition_en}" for m in every] + [f"{m.name_zh}。{m.definition_zh}" for m in every]
    labels = _unit(embed(names))

    def answer(texts: Sequence[str]) -> list[Answer]:
        near = (_unit(embed(texts)) @ labels.T).reshape(len(texts), 2, len(every)).max(axis=1)
        best = near.argmax(axis=1)
        return [Answer(((every[i].code, 0.5),) if i < len(every) - 1 else (), 0.5) for i in best]

    return answer


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return result


def regressions(
    features: object, train: Sequence[Example], taxonomy: Taxonomy, strength: float
) -> Callable[..., list[Answer]]:
    """One multinomial regression for the primary label and one per motive, over 0.4, for the rest.

    Raises UnlearnableError where all texts have the same primary label.
    """
    from sklearn.linear_model import LogisticRegression

    primary = np.array([e.motives[0] if e.motives else "" for e in train])
    if len(set(primary)) < 2:
        raise UnlearnableError(f"all of the {len(train)} texts have the same primary label")
    first = LogisticRegression(C=strength, max_iter=100, tol=1e-3, random_state=SEED).fit(features, primary)
    rest = {}
    for code in taxonomy.codes:
        has = np.array([code in e.motives for e in train])
        if has.any() and not has.all():
            rest[code] = LogisticRegression(C=strength, max_iter=100, tol=1e-3, random_state=SEED).fit(features, has)

    def decide(rows: object) -> list[Answer]:
        chances = first.predict_proba(rows)
        others = {code: model.predict_proba(rows)[:, 1] for code, model in rest.items()}
        result = []
        for i, row in enumerate(chances):
            best = str(first.classes_[row.argmax()])
            more = sorted(
                ((c, float(p[i])) for c, p in others.items() if p[i] >= 0.4 and c != best), key=lambda m: -m[1]
            )
            confidence = float(row.max())
            result.append(Answer(((best, confidence), *more) if best else (), confidence))
        return result

    return decide
