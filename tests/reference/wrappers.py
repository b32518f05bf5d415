"""Losses around losses, and the one with several positives in its sum, as their formulas read."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def matryoshka(
    loss: Callable[[Sequence[Tensor]], Tensor],
    texts: Sequence[Tensor],
    dims: Sequence[int],
    weights: Sequence[float],
    normalize: bool = True,
) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for length, weight in zip(dims, weights, strict=True):
        cut = [text[:length] for text in texts]
        total = total + weight * loss([text / text.norm() if normalize else text for text in cut])
    return total


def spread_out(columns: Sequence[Sequence[Tensor]], mean_weight: float, moment_weight: float, dim: int) -> Tensor:
    """Of the different texts of each role."""
    total = torch.zeros((), dtype=torch.float64)
    for texts in columns:
        cosines = [a @ b for i, a in enumerate(texts) for j, b in enumerate(texts) if i != j]
        mean, moment = sum(cosines) / len(cosines), sum(c * c for c in cosines) / len(cosines)
        total = total + mean_weight * mean**2 + moment_weight * max(moment - 1 / dim, moment * 0)
    return total


def quantized(
    loss: Callable[[Sequence[Tensor]], Tensor], texts: Tensor, precisions: Sequence[str], weights: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Value, and straight-through gradient: that at the rounded numbers."""
    value, gradient = torch.zeros((), dtype=torch.float64), torch.zeros_like(texts)
    for precision, weight in zip(precisions, weights, strict=True):
        rows = []
        for text in texts.tolist():
            if precision == "int8":
                step = max(map(abs, text)) / 127
                text = [step * round(number / step) for number in text]
            if precision == "binary":
                text = [(1 if number > 0 else -1) / math.sqrt(len(text)) for number in text]
            rows.append(torch.tensor(text, dtype=torch.float64, requires_grad=True))
        units = rows if precision == "float32" else [row / row.norm() for row in rows]
        part = weight * loss(units)
        value = value + part.detach()
        gradient = gradient + torch.stack(torch.autograd.grad(part, rows, materialize_grads=True, allow_unused=True))
    return value, gradient.detach()


def distill_kl(
    student: Sequence[Sequence[Tensor]],
    teacher: Sequence[Sequence[float]],
    temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Of each row the similarities and the teacher's scores of the same documents, those without a score left out."""
    rows = []
    for similarity, score in zip(student, teacher, strict=True):
        if len(score) < 2:
            continue
        p = [math.exp(t / teacher_temperature) for t in score]
        q = [torch.exp(s / temperature) for s in similarity]
        rows.append(sum(a / sum(p) * torch.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q, strict=True)))
    return sum(rows) / len(rows)


def distill_margin_mse(pairs: Sequence[tuple[Tensor, Tensor, float, float]]) -> Tensor:
    """Of each pair: similarity of the positive and the negative, score of the positive and the negative."""
    return sum(((s_pos - s_neg) - (t_pos - t_neg)) ** 2 for s_pos, s_neg, t_pos, t_neg in pairs) / len(pairs)


def multi_positive(
    queries: Sequence[tuple[int, Tensor]],
    positives: Sequence[Sequence[tuple[int, Tensor]]],
    negatives: Sequence[Sequence[tuple[int, Tensor]]],
    wrong: Sequence[Sequence[tuple[int, Tensor]]],
    temperature: float,
    mined: bool = True,
    in_batch: bool = True,
) -> Tensor:
    """Texts are (what it reads, embedding); `wrong`: second texts of pairs that are no positives."""
    losses = []
    for i, (query_text, query) in enumerate(queries):
        own = {text for text, _ in positives[i]}
        right = set(own)
        for j, (other_text, _) in enumerate(queries):
            theirs = {text for text, _ in positives[j]}
            if mined and (other_text == query_text or own & theirs):
                right |= theirs
        documents = {}
        for j in range(len(queries)):
            for text, embedding in [*positives[j], *wrong[j], *negatives[j]]:
                documents.setdefault(text, embedding)
        allowed = set(documents) if in_batch else {text for text, _ in negatives[i]}
        against = {text for text in allowed - right if text != query_text}
        if right:
            similarity = {text: math.e ** (query @ e / temperature) for text, e in documents.items()}
            ours = sum(similarity[text] for text in right)
            losses.append(-torch.log(ours / (ours + sum(similarity[text] for text in against))))
    return sum(losses) / len(losses)


def distill_embeddings(pairs: Sequence[tuple[Tensor, Tensor]], kind: str) -> Tensor:
    """Of each place of a row that holds a text: the student's and the teacher's embedding of it, unit vectors."""
    distance = {
        "cosine": lambda s, t: 1 - s @ t,
        "mse": lambda s, t: sum((a - b) ** 2 for a, b in zip(s, t, strict=True)) / len(t),
        "l2": lambda s, t: (s - t).norm(),
    }[kind]
    return sum(distance(s, t) for s, t in pairs) / len(pairs)


def distill_similarities(
    rows: Sequence[Sequence[tuple[Tensor, float]]], temperature: float, teacher_temperature: float
) -> Tensor:
    """Of each query: similarity and the teacher's similarity of the documents of the batch that are not the query."""
    return distill_kl(
        [[s for s, _ in row] for row in rows], [[t for _, t in row] for row in rows], temperature, teacher_temperature
    )


def gist(
    embeddings: Sequence[Tensor],
    guide: Sequence[Tensor],
    texts: Sequence[int],
    query: Sequence[int],
    positives: Sequence[Sequence[int]],
    negatives: Sequence[Sequence[int]],
    temperature: float,
    margin: float,
    relative: bool,
    contrast_queries: bool,
    contrast_positives: bool,
) -> Tensor:
    """All indices are places in `embeddings`, -1 an empty one; `texts` says which places hold equal texts."""
    losses = []
    for i, q in enumerate(query):
        own = {texts[q], *(texts[p] for p in positives[i] if p >= 0)}
        for slot, p in enumerate(positives[i]):
            if p < 0:
                continue
            best = float(guide[q] @ guide[p])
            limit = best - margin * (abs(best) if relative else 1)
            pairs = [(q, row[slot]) for row in positives] + [(q, n) for row in negatives for n in row]
            pairs += [(q, other) for other in query] if contrast_queries else []
            pairs += [(p, row[slot]) for row in positives] if contrast_positives else []
            target = torch.exp(embeddings[q] @ embeddings[p] / temperature)
            total = target
            for a, c in pairs:
                if c >= 0 and texts[c] not in own and float(guide[a] @ guide[c]) <= limit:
                    total = total + torch.exp(embeddings[a] @ embeddings[c] / temperature)
            losses.append(-torch.log(target / total))
    return sum(losses) / len(losses)
