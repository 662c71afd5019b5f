"""The papers' equations, written out slowly, against the models."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cleave.builders.zoo.hstu import Hstu, HstuBlock
from cleave.builders.zoo.layers import RecencyEmbedding
from cleave.builders.zoo.lime import Lime, XorLinks
from cleave.builders.zoo.vista import QuasiLinearBlock, Summarizer, Vista
from tests.builders.zoo.test_models import NUM_ITEMS, assert_close, draw, scores, small

recency_models = pytest.mark.parametrize("name", ["vista", "lime_mha", "lime_xor"])


def randomized_module(module: nn.Module) -> None:
    torch.manual_seed(1)
    for parameter in module.parameters():
        parameter.detach().add_(torch.randn_like(parameter) * 0.2)
    module.eval()


def hstu_layer(block: HstuBlock, rows: Tensor, mask: Tensor) -> Tensor:
    """One HSTU layer over rows [S, D] that may read each other where mask [S, S] is one: the paper's equations."""
    normed = block.norm(rows)
    gate, value, query, key = (
        functional.silu(product(normed)) for product in (block.gate, block.value, block.query, block.key)
    )
    read = []
    for columns in torch.arange(rows.shape[1]).chunk(block.heads):
        weights = functional.silu(query[:, columns] @ key[:, columns].T) / 256
        read.append((weights * mask) @ value[:, columns])
    result: Tensor = block.project(block.norm_read(torch.cat(read, dim=1)) * gate) + rows
    return result


def test_hstu_equals_one_full_causal_sequence_per_candidate() -> None:
    ranker = small("hstu")
    module = ranker.module
    assert isinstance(module, Hstu)
    inputs = draw(ranker, batch=1, events=9, candidates=4)
    inputs["history_items"] = inputs["history_items"] % NUM_ITEMS + 1
    with torch.inference_mode():
        events = module.embedding.events(inputs["history_items"], inputs["history_ratings"])[0]
        for place, candidate in enumerate(module.embedding.candidates(inputs["candidate_items"])[0]):
            rows = torch.cat((events, candidate.unsqueeze(0)))
            for block in module.blocks:
                assert isinstance(block, HstuBlock)
                rows = hstu_layer(block, rows, torch.ones(10, 10).tril())
            genres = inputs["candidate_genres"][:, place : place + 1]
            expected = torch.sigmoid(module.head(rows[None, -1:], genres, inputs))
            assert_close(scores(ranker, inputs)[:, place : place + 1], expected)


def test_hstu_micro_batches_equal_one_pass() -> None:
    ranker = small("hstu")
    inputs = draw(ranker, batch=2, events=30, candidates=23, padded=True)
    parts = []
    for start in range(0, 23, 5):
        part = {key: value[:, start : start + 5] for key, value in inputs.items() if key.startswith("candidate")}
        parts.append(scores(ranker, {**inputs, **part}))
    assert_close(torch.cat(parts, dim=1), scores(ranker, inputs))


def test_a_new_event_leaves_hstu_keys_and_values_of_older_ones_valid() -> None:
    module = small("hstu").module
    assert isinstance(module, Hstu)
    items, ratings = torch.randint(1, NUM_ITEMS, (1, 9)), torch.randint(1, 11, (1, 9))

    def kept(num_events: int) -> list[Tensor]:
        events = module.embedding.events(items[:, :num_events], ratings[:, :num_events])
        tensors: list[Tensor] = []
        for block in module.blocks:
            assert isinstance(block, HstuBlock)
            key, value = block.keys(events)
            tensors += (key, value)
            events = block(events, key, value, causal=True)
        return tensors

    with torch.inference_mode():
        for before, after in zip(kept(8), kept(9), strict=True):
            assert_close(after[:, :, :8], before)


def quasi_linear_layer(block: QuasiLinearBlock, rows: Tensor, heads: int) -> Tensor:
    """One QLA layer and SGLU over rows [S, D], of which none is padding: sums instead of products, head by head."""
    normed = block.norm_attention(rows)
    query, key, value = functional.silu(block.query(normed)), functional.silu(block.key(normed)), block.value(normed)
    read = torch.zeros_like(rows)
    for columns in torch.arange(rows.shape[1]).chunk(heads):
        state = sum(torch.outer(key[i, columns], value[i, columns]) for i in range(len(rows))) / len(rows)
        assert isinstance(state, Tensor)
        read[:, columns] = query[:, columns] @ functional.silu(state)
    rows = rows + block.project(read)
    normed = block.norm_gate(rows)
    result: Tensor = rows + block.down(block.gate(normed) * block.up(normed))
    return result


def test_the_summary_is_the_seeds_rows_after_qla_over_events_and_seeds() -> None:
    summarizer = Summarizer(seeds=5, layers=3, width=12, heads=3, dropout=0.1)
    randomized_module(summarizer)
    events = torch.randn(1, 8, 12)
    with torch.inference_mode():
        rows = torch.cat((events[0], summarizer.seeds))
        for block in summarizer.blocks:
            assert isinstance(block, QuasiLinearBlock)
            rows = quasi_linear_layer(block, rows, heads=3)
        assert_close(summarizer(events, torch.ones(1, 8, dtype=torch.bool))[0], summarizer.norm(rows[8:]))


def test_the_qla_state_is_a_sum_over_chunks_and_its_outputs_are_not() -> None:
    block = QuasiLinearBlock(width=12, heads=2, dropout=0.1)
    randomized_module(block)
    rows = torch.randn(2, 20, 12)
    with torch.inference_mode():
        state = block.state(rows)
        chunks = [block.state(rows[:, i : i + 6]) for i in range(0, 20, 6)]
        assert_close(sum(chunks, torch.zeros(())), state)
        together = block(rows, state) - rows
        apart = sum((block(rows, chunk) - rows for chunk in chunks), torch.zeros(()))
        assert (together - apart).abs().max() > 0.1


def test_reconstruction_is_of_real_events_and_not_in_the_scores() -> None:
    ranker = small("vista")
    module = ranker.module
    assert isinstance(module, Vista)
    inputs = draw(ranker, batch=3, events=8, candidates=2, padded=True)
    padded = {**inputs, **{key: functional.pad(inputs[key], (0, 5)) for key in ("history_items", "history_ratings")}}
    assert_close(module.auxiliary_loss(**padded), module.auxiliary_loss(**inputs))
    empty = {**inputs, "history_items": torch.zeros_like(inputs["history_items"])}
    assert module.auxiliary_loss(**empty) == 0
    module(**inputs).sum().backward()
    assert all(parameter.grad is None for parameter in module.reconstruct.parameters())


def test_reconstruction_predicts_an_event_from_those_before_it_only() -> None:
    module = small("vista").module
    assert isinstance(module, Vista)
    summary, events = torch.randn(1, 4, 16), torch.randn(1, 6, 16, requires_grad=True)
    for num_events in range(1, 7):
        mask = torch.arange(6)[None] < num_events
        (gradient,) = torch.autograd.grad(module.reconstruct(summary, events, mask), events)
        read = gradient[0].abs().sum(1) > 0
        assert read[: num_events - 1].all()
        assert not read[num_events - 1 :].any()


def test_lime_xor_equals_full_attention_under_the_xor_mask() -> None:
    module = small("lime_xor").module
    assert isinstance(module, Lime)
    assert isinstance(module.read_history, XorLinks)
    links, events = torch.randn(1, 5, 16), torch.randn(1, 9, 16)
    is_link = torch.arange(14) < 5
    xor = (is_link[:, None] ^ is_link).float()
    with torch.inference_mode():
        rows = torch.cat((links[0], events[0]))
        for block in module.read_history.blocks:
            assert isinstance(block, HstuBlock)
            rows = hstu_layer(block, rows, xor)
        actual = module.read_history(links, events, torch.ones(1, 9, dtype=torch.bool))
        assert_close(actual[0], rows[:5])


@pytest.mark.parametrize("name", ["lime_mha", "lime_xor"])
def test_lime_weighs_links_by_the_item_alone_and_reads_them_head_by_head(name: str) -> None:
    ranker = small(name)
    module = ranker.module
    assert isinstance(module, Lime)
    inputs = draw(ranker, batch=1, events=9, candidates=4)
    mask = inputs["history_items"] != 0
    with torch.inference_mode():
        events = module.embedding.events(inputs["history_items"], inputs["history_ratings"])
        links = module.read_history(module.personal_links(events, mask), events, mask)[0]
        items = module.norm_item(module.embedding.candidates(inputs["candidate_items"]))[0]
        read = []
        for columns in torch.arange(16).chunk(module.heads):
            scale = len(columns) ** 0.5
            weights = torch.softmax(items[:, columns] @ module.links[:, columns].T / scale, dim=-1)
            read.append(weights @ links[:, columns])
        features = torch.cat((items[None], inputs["candidate_genres"]), dim=-1)
        expected = module.head(torch.cat(read, dim=1)[None], features, inputs)
    assert_close(scores(ranker, inputs), torch.sigmoid(expected))


def test_ages_double_from_bucket_to_bucket_up_to_a_million_events() -> None:
    embedding = RecencyEmbedding(num_items=1, num_ratings=1, max_events=2**20, width=1)
    embedding.positions.detach().copy_(torch.arange(21.0)[:, None])
    with torch.inference_mode():
        buckets = embedding.places(torch.ones(1, 2**20, dtype=torch.int64))[0, :, 0].flip(0)
    expected = torch.cat([torch.full((2**bucket,), float(bucket)) for bucket in range(21)])[: 2**20]
    assert torch.equal(buckets[: 2**17], expected[: 2**17])
    assert (buckets != expected).sum() <= 2


@recency_models
def test_padding_between_events_is_not_there(name: str) -> None:
    ranker = small(name)
    inputs = draw(ranker, batch=2, events=9, candidates=4)
    inputs["history_items"] = inputs["history_items"] % NUM_ITEMS + 1
    places = [0, 1, 2, 5, 6, 8, 11, 12, 13]
    spread = dict(inputs)
    for key in ("history_items", "history_ratings"):
        spread[key] = torch.zeros(2, 16, dtype=torch.int64)
        spread[key][:, places] = inputs[key]
    assert_close(scores(ranker, spread), scores(ranker, inputs))
