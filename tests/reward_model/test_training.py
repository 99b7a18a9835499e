import itertools
import math
import statistics
from dataclasses import replace

import pytest
import torch
from fakes import tiny_tokenizer
from reward_fakes import tiny_reward_model, unchecked

from policy.config import LoraConfig
from policy.lora import Adapters, LoraError
from preference_data.messages import assistant, user
from registry.saved_states import SavedStates, SaveEvery
from reward_model.batch import encode_for_scoring
from reward_model.config import RewardModelConfig
from reward_model.scoring import RewardScorer
from reward_model.training import NonFiniteLoss, RewardTrainingError, learning_rate_at, train_reward_model

pytestmark = pytest.mark.usefixtures("exact_norms")
CONFIG = RewardModelConfig(axis="helpfulness", learning_rate=3e-3, batch_size=8, microbatch_size=8, margin="none")


LORA = CONFIG.model_copy(
    update={"lora": LoraConfig(rank=4, alpha=8, target_modules=("q_proj", "down_proj")), "epochs": 3, "learning_rate": 0.02}
)
DIALOGUE = [user("Which one is older?"), assistant("The owl.")]


def separable(count):
    """Chosen responses speak of the owl, rejected ones of the fox; lengths differ on both sides."""
    return [unchecked(n, "The owl. " * (1 + n % 3), "The fox. " * (1 + n // 2 % 3)) for n in range(count)]


LABELLED = [
    unchecked(0, "The owl.", "The fox is brown.", "significantly_better", True, False),
    unchecked(1, "Sure!", "I cannot help with that, because it could hurt people.", "slightly_better", False, None),
    unchecked(2, "The sea is blue.", "First take the pot.", "unrated"),
]


def test_training_separates_what_can_be_separated():
    model = tiny_reward_model()
    stats = list(train_reward_model(model, tiny_tokenizer(), separable(64), CONFIG.model_copy(update={"epochs": 4}), seed=0))
    assert [step.step for step in stats] == list(range(1, 33)) and {step.num_steps for step in stats} == {32}
    assert stats[-1].loss < 0.3 * stats[0].loss and stats[-1].accuracy > 0.9 and stats[-1].reward_margin > 2
    held_out = [unchecked(n, "The owl. The owl.", "The fox. The fox.") for n in range(900, 910)]
    scorer = RewardScorer(model, tiny_tokenizer())
    chosen, rejected = (scorer.score([getattr(c, f"{side}_dialogue") for c in held_out]) for side in ("chosen", "rejected"))
    assert (chosen > rejected).float().mean() > 0.9
    assert not model.training


@pytest.mark.parametrize("axis", ["helpfulness", "safety"])
def test_one_step_equals_a_plain_loop_in_float64(axis):
    config = CONFIG.model_copy(
        update={"axis": axis, "margin": "large", "safety_loss_coef": 0.7, "centring_coef": 0.3, "max_grad_norm": 0.5}
    )
    model, plain = tiny_reward_model(torch.float64), tiny_reward_model(torch.float64)
    (stats,) = train_reward_model(model, tiny_tokenizer(), LABELLED, config, seed=0)

    def score(dialogue):
        return plain(input_ids=torch.tensor(encode_for_scoring(tiny_tokenizer(), [dialogue]))).logits[0, 0]

    chosen = [score(c.chosen_dialogue) for c in LABELLED]
    rejected = [score(c.rejected_dialogue) for c in LABELLED]
    ranking = -sum(torch.log(torch.sigmoid(c - r - m)) for c, r, m in zip(chosen, rejected, (3, 1, 0), strict=True)) / 3
    labels = ((chosen[0], 1.0), (rejected[0], 0.0), (chosen[1], 0.0))
    safety = sum(torch.nn.functional.binary_cross_entropy(s.sigmoid(), s.new_tensor(label)) for s, label in labels) / 3
    centring = sum((c + r) ** 2 for c, r in zip(chosen, rejected, strict=True)) / 3
    loss = ranking + 0.3 * centring + (0.7 * safety if axis == "safety" else 0)
    loss.backward()
    norm = math.sqrt(sum(p.grad.square().sum().item() for p in plain.parameters()))
    assert norm > config.max_grad_norm
    for parameter in plain.parameters():
        parameter.grad.mul_(config.max_grad_norm / norm)
    rate = config.learning_rate / config.min_warmup_steps
    torch.optim.AdamW(plain.parameters(), lr=rate, betas=(0.9, 0.95), eps=1e-5, weight_decay=0.1).step()

    assert stats.ranking_loss == pytest.approx(ranking.item(), abs=1e-9)
    assert stats.loss == pytest.approx(loss.item(), abs=1e-9)
    assert stats.safety_loss == (pytest.approx(safety.item(), abs=1e-9) if axis == "safety" else None)
    assert stats.centring_loss == pytest.approx(centring.item(), abs=1e-9)
    assert stats.grad_norm == pytest.approx(norm, rel=1e-9)
    assert stats.learning_rate == pytest.approx(rate)
    gaps = [c.item() - r.item() for c, r in zip(chosen, rejected, strict=True)]
    assert stats.reward_margin == pytest.approx(sum(gaps) / 3, abs=1e-9)
    assert stats.accuracy == pytest.approx(sum(gap > 0 for gap in gaps) / 3)
    for (name, ours), theirs in zip(model.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-8, rtol=0, msg=name)


def test_microbatches_change_nothing():
    config = CONFIG.model_copy(update={"axis": "safety", "batch_size": 6, "margin": "small"})
    data = [*LABELLED, *separable(9)]
    runs = {}
    for size in (1, 4, 6):
        model = tiny_reward_model(torch.float64)
        stats = list(
            train_reward_model(model, tiny_tokenizer(), data, config.model_copy(update={"microbatch_size": size}), seed=3)
        )
        runs[size] = ([step.loss for step in stats], torch.cat([p.flatten() for p in model.parameters()]))
    for size in (1, 4):
        assert runs[size][0] == pytest.approx(runs[6][0], abs=1e-8)
        torch.testing.assert_close(runs[size][1], runs[6][1], atol=1e-6, rtol=0)


def test_stats_count_tokens_padding_and_what_was_left_out():
    data = [*separable(3), unchecked(3, "The owl.", "The owl.")]
    (stats,) = train_reward_model(tiny_reward_model(), tiny_tokenizer(), data, CONFIG, seed=0)
    sides = [d for c in data[:3] for d in (c.chosen_dialogue, c.rejected_dialogue)]
    rows = encode_for_scoring(tiny_tokenizer(), sides)
    lengths = [len(row) for row in rows]
    width = -(-max(lengths) // 8) * 8
    assert stats.num_pairs == 3 and stats.num_tokens == sum(lengths) and stats.dropped == {"identical": 1}
    assert stats.padding_fraction == pytest.approx(1 - sum(lengths) / (6 * width))
    beginnings = {tuple(row[:end]) for row in rows for end in range(1, len(row) + 1)}
    assert stats.shared_fraction == pytest.approx(1 - len(beginnings) / sum(lengths)) and stats.shared_fraction > 0.3


def test_same_seed_same_weights_and_another_seed_another_order():
    def run(seed):
        model = tiny_reward_model()
        losses = [s.loss for s in train_reward_model(model, tiny_tokenizer(), separable(24), CONFIG, seed)]
        return losses, model.score.weight.detach().clone()

    (one, weights), (again, same_weights), (other, _) = run(1), run(1), run(2)
    assert one == again and torch.equal(weights, same_weights) and one != other


def test_learning_rate_rises_then_follows_the_cosine():
    config = CONFIG.model_copy(update={"learning_rate": 1.0, "min_warmup_steps": 5, "warmup_fraction": 0.03})
    assert [learning_rate_at(step, 105, config) for step in (1, 4, 5)] == pytest.approx([0.2, 0.8, 1.0])
    assert learning_rate_at(55, 105, config) == pytest.approx((1 + 0.1) / 2)  # half way down
    assert learning_rate_at(30, 105, config) == pytest.approx(0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2)  # a quarter
    assert learning_rate_at(105, 105, config) == pytest.approx(0.1)
    assert learning_rate_at(30, 1000, config) == pytest.approx(1.0) and learning_rate_at(29, 1000, config) < 1
    assert learning_rate_at(3, 3, config) == pytest.approx(0.6)


def test_training_that_blows_up_says_at_which_step_and_on_which_batch(tmp_path):
    model, data = tiny_reward_model(), [replace(each, id=f"pair-{number}") for number, each in enumerate(separable(24))]
    states = SavedStates(tmp_path, lambda line: None, SaveEvery.parse("1000"))
    steps = train_reward_model(model, tiny_tokenizer(), data, CONFIG, seed=0, states=states)
    next(steps)
    with torch.no_grad():
        model.score.weight.fill_(math.nan)
    with pytest.raises(NonFiniteLoss, match=r"at step 2 of 3 the loss is nan.*'s 8 .*: (pair-\d+, ){4}pair-\d+ and 3 "):
        next(steps)
    assert not model.training and states.numbers() == [1]


def test_the_comparisons_that_have_no_finite_score_are_named_and_the_weights_stay():
    data = [replace(each, id=f"pair-{number}") for number, each in enumerate(separable(8))]
    data[3] = replace(data[3], rejected="漢")
    model, before = tiny_reward_model(), tiny_reward_model()
    token = tiny_tokenizer()("漢").input_ids[-1]
    for each in (model, before):
        with torch.no_grad():
            each.model.embed_tokens.weight[token] = math.inf
    with pytest.raises(NonFiniteLoss, match="1 of the batch's 8 comparisons have no finite score: pair-3;"):
        list(train_reward_model(model, tiny_tokenizer(), data, CONFIG, seed=0))
    for mine, theirs in zip(model.parameters(), before.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_adapters_that_blow_up_say_so_too():
    config = LORA.model_copy(update={"learning_rate": 1e30, "min_warmup_steps": 0})
    model = tiny_reward_model()
    with pytest.raises(NonFiniteLoss, match=r"at step \d of 24 the loss is (nan|inf)"):
        list(train_reward_model(model, tiny_tokenizer(), separable(64), config, seed=0))
    assert not any("lora" in name for name, _ in model.named_parameters())


def test_scoring_with_the_model_between_steps_changes_nothing():
    config, losses = LORA.model_copy(update={"lora": LORA.lora.model_copy(update={"dropout": 0.5})}), []
    for between in (lambda model: None, lambda model: RewardScorer(model, tiny_tokenizer()).score([DIALOGUE])):
        model = tiny_reward_model()
        torch.manual_seed(0)
        losses.append([])
        for stats in train_reward_model(model, tiny_tokenizer(), separable(24), config, seed=0):
            losses[-1].append(stats.loss)
            between(model)
    assert losses[0] == losses[1]


def test_where_every_score_is_finite_the_whole_batch_is_named():
    data = [replace(each, id=f"pair-{number}") for number, each in enumerate(separable(2))]
    model = tiny_reward_model()
    model.score.weight.register_hook(lambda gradient: gradient * math.inf)
    with pytest.raises(NonFiniteLoss, match=r"gradient norm (nan|inf)\. The batch's comparisons are: pair-[01], pair-[01];"):
        list(train_reward_model(model, tiny_tokenizer(), data, CONFIG, seed=0))


def test_nothing_to_train_on_is_an_error():
    with pytest.raises(RewardTrainingError, match=r"no comparison is left to train on \(1 identical\)"):
        next(train_reward_model(tiny_reward_model(), tiny_tokenizer(), [unchecked(0, "Sure!", "Sure!")], CONFIG, 0))
    with pytest.raises(RewardTrainingError, match="there were none"):
        next(train_reward_model(tiny_reward_model(), tiny_tokenizer(), [], CONFIG, 0))
    too_short = CONFIG.model_copy(update={"max_length": 5})
    with pytest.raises(RewardTrainingError, match=r"3 too_long.*max_length = 5"):
        next(train_reward_model(tiny_reward_model(), tiny_tokenizer(), separable(3), too_short, 0))


def test_a_safety_loss_without_labels_is_an_error():
    safety = CONFIG.model_copy(update={"axis": "safety"})
    with pytest.raises(RewardTrainingError, match="none of the 3 pairs has a safety label"):
        next(train_reward_model(tiny_reward_model(), tiny_tokenizer(), separable(3), safety, 0))
    unlabelled = [replace(c, chosen_safe=None, rejected_safe=None) for c in LABELLED]
    without = safety.model_copy(update={"safety_loss_coef": 0.0})
    assert next(train_reward_model(tiny_reward_model(), tiny_tokenizer(), unlabelled, without, 0)).safety_loss is None


def test_margins_without_ratings_are_an_error():
    small, unrated = CONFIG.model_copy(update={"margin": "small"}), [replace(c, rating="unrated") for c in separable(3)]
    with pytest.raises(RewardTrainingError, match=r"margin is 'small', but none of the 3 pairs is rated.*set margin to none"):
        next(train_reward_model(tiny_reward_model(), tiny_tokenizer(), unrated, small, 0))
    one_rated = [*unrated, unchecked(3, "The owl.", "The fox.")]
    assert next(train_reward_model(tiny_reward_model(), tiny_tokenizer(), one_rated, small, 0))


def test_what_is_told_of_a_batch_is_what_a_plain_count_finds():
    swapped = [replace(c, chosen=c.rejected, rejected=c.chosen) if n % 2 else c for n, c in enumerate(separable(6))]
    ratings = ["better", "slightly_better", "better"] * 2
    data = [replace(c, source=s, rating=r) for c, s, r in zip(swapped, "xxyyyx", ratings, strict=True)]
    model, before = tiny_reward_model(torch.float64), tiny_reward_model(torch.float64)
    (stats,) = train_reward_model(model, tiny_tokenizer(), data, CONFIG, seed=0)
    sides = [[getattr(c, f"{side}_dialogue") for c in data] for side in ("chosen", "rejected")]
    encoded = [encode_for_scoring(tiny_tokenizer(), side) for side in sides]
    with torch.no_grad():
        chosen, rejected = ([before(input_ids=torch.tensor([row])).logits.item() for row in rows] for rows in encoded)
    right = [c > r for c, r in zip(chosen, rejected, strict=True)]
    assert 0 < sum(right) < 6
    for name, groups in (("rating", [c.rating for c in data]), ("source", [c.source for c in data])):
        members = {group: [ok for ok, other in zip(right, groups, strict=True) if other == group] for group in groups}
        expected = {group: statistics.fmean(found) for group, found in members.items()}
        assert getattr(stats, f"accuracy_by_{name}") == pytest.approx(expected)
    assert stats.score_mean == pytest.approx(statistics.fmean([*chosen, *rejected]))
    assert stats.score_std == pytest.approx(statistics.pstdev([*chosen, *rejected]))
    confidence = statistics.fmean(1 / (1 + math.exp(-abs(c - r))) for c, r in zip(chosen, rejected, strict=True))
    assert stats.overconfidence == pytest.approx(confidence - sum(right) / 6)
    lengths = [len(row) for rows in encoded for row in rows]
    assert stats.length_correlation == pytest.approx(statistics.correlation(lengths, [*chosen, *rejected]))


def test_a_tie_is_no_right_answer():
    model = tiny_reward_model()
    with torch.no_grad():
        model.score.weight.zero_()
    (stats,) = train_reward_model(model, tiny_tokenizer(), separable(4), CONFIG, seed=0)
    assert (stats.accuracy, stats.reward_margin, stats.length_correlation) == (0, 0, None)
    assert stats.ranking_loss == pytest.approx(math.log(2))


def test_checkpointing_activations_changes_nothing():
    runs = []
    for checkpointing in (False, True):
        model = tiny_reward_model(torch.float64)
        config = CONFIG.model_copy(update={"gradient_checkpointing": checkpointing})
        losses = [stats.loss for stats in train_reward_model(model, tiny_tokenizer(), separable(24), config, seed=1)]
        runs.append((losses, model.score.weight.detach()))
        assert not model.is_gradient_checkpointing
    assert runs[0][0] == pytest.approx(runs[1][0], abs=1e-12)
    torch.testing.assert_close(runs[0][1], runs[1][1], atol=1e-10, rtol=0)


def test_adapters_train_what_they_say_and_are_merged_at_the_end():
    model, before = tiny_reward_model(torch.float64), tiny_reward_model(torch.float64)
    stats = list(train_reward_model(model, tiny_tokenizer(), separable(64), LORA, seed=0))
    assert stats[-1].loss < 0.7 * stats[0].loss
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in before.named_parameters()]
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before.get_parameter(name))}
    assert moved == {"score.weight"} | {
        name for name, _ in before.named_parameters() if name.endswith(("q_proj.weight", "down_proj.weight"))
    }
    for name in moved - {"score.weight"}:
        update = model.get_parameter(name) - before.get_parameter(name)
        assert torch.linalg.matrix_rank(update, rtol=1e-9) <= 4


def test_adapters_come_from_their_seed_alone():
    def drawn(seed, noise):
        model = tiny_reward_model()
        torch.manual_seed(noise)
        before = torch.get_rng_state()
        Adapters(model, LORA.lora, seed=seed)
        assert torch.equal(torch.get_rng_state(), before)  # nothing else draws other numbers for it
        return torch.cat([value.flatten() for name, value in model.named_parameters() if "lora_A" in name])

    assert torch.equal(drawn(3, 0), drawn(3, 1))
    assert not torch.equal(drawn(3, 0), drawn(4, 0))


def test_adapters_for_matrices_that_are_not_there_are_refused():
    config = CONFIG.model_copy(update={"lora": LoraConfig(target_modules=("q_proj", "qkv"))})
    with pytest.raises(LoraError, match="adapters were asked for in qkv, which no layer of LlamaForSequenceClassification has"):
        next(train_reward_model(tiny_reward_model(), tiny_tokenizer(), separable(3), config, 0))


def test_training_with_adapters_goes_on_after_a_stop(tmp_path):
    def run(states, take=None):
        model = tiny_reward_model()
        steps = train_reward_model(model, tiny_tokenizer(), separable(32), LORA, seed=2, states=states)
        losses = [stats.loss for stats in itertools.islice(steps, take)]
        return losses, model

    whole, expected = run(None)
    states = SavedStates(tmp_path, print, SaveEvery(steps=1))
    run(states, take=5)
    again, model = run(states)
    assert again == whole
    for (name, one), other in zip(expected.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other), name
