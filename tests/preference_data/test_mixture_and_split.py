import random
from collections import Counter

import pytest
from comparisons import comparison
from hypothesis import given, settings
from hypothesis import strategies as st

from preference_data.comparison import Comparison
from preference_data.messages import assistant, user
from preference_data.mixture import MixtureError, mixture_by_shares, paper_mixture
from preference_data.parquet import RecordWriter, num_records, read_records, table_of, write_records
from preference_data.shuffling import write_in_order
from preference_data.split import is_held_out

sizes = st.integers(0, 30)


def ids(count, source):
    return [f"{source} {number}" for number in range(count)]


def comparisons(count, source):
    return [comparison(f"{source} {number}", source=source) for number in range(count)]


@settings(deadline=None, max_examples=50)
@given(sizes, sizes, sizes, st.integers(0, 5))
def test_the_helpfulness_mix_is_all_helpfulness_and_as_many_again(helpful, safe, open_source, seed):
    own, rest = ids(helpful, "meta"), [*ids(safe, "meta-safety"), *ids(open_source, "shp")]
    mixture = paper_mixture("helpfulness", own, rest, seed)
    names = mixture.of([own, rest])
    assert len(names) == len(set(names)) == helpful + min(helpful, safe + open_source)
    assert set(own) <= set(names) <= {*own, *rest}
    assert (mixture.drawn, mixture.wanted, mixture.repeated) == ((helpful, min(helpful, len(rest))), (helpful, helpful), 0)
    if 0 < helpful <= len(rest):
        assert mixture.shares == (0.5, 0.5)


@settings(deadline=None, max_examples=50)
@given(sizes, sizes, st.integers(0, 5))
def test_the_safety_mix_is_nine_tenths_safety(safe, helpful, seed):
    own, rest = [*ids(safe, "s"), *ids(9, "harmless")], [*ids(helpful, "h"), *ids(1, "open")]
    mixture = paper_mixture("safety", own, rest, seed)
    drawn = min(round((safe + 9) / 9), helpful + 1)
    assert mixture.drawn == (safe + 9, drawn) and set(own) <= set(mixture.of([own, rest]))
    if drawn == mixture.wanted[1] and safe % 9 == 0:
        assert mixture.shares[1] == pytest.approx(0.1)


def test_mixtures_are_deterministic_shuffled_and_drawn_over_comparisons():
    own, rest = ids(400, "meta"), [*ids(900, "big"), *ids(100, "small")]
    mixtures = [paper_mixture("helpfulness", own, rest, seed) for seed in (0, 0, 1)]
    assert mixtures[0] == mixtures[1] != mixtures[2]
    names = mixtures[0].of([own, rest])
    # 400 of 1000 drawn: about 40 of the small source; 5 standard deviations of the hypergeometric are 23.
    assert abs(Counter(name.split()[0] for name in names)["small"] - 40) < 23
    assert 150 < Counter(name.split()[0] for name in names[:400])["meta"] < 250


def test_a_judgement_that_comes_twice_is_in_once():
    own = ids(3, "meta")
    rest = [*own[1:], *ids(9, "shp")]
    mixture = paper_mixture("helpfulness", [*own, own[0]], rest, 0)
    names = mixture.of([[*own, own[0]], rest])
    assert len(set(names)) == len(names) == 6 and mixture.repeated == 3


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 60), st.integers(1, 9)), min_size=1, max_size=4), st.integers(0, 3))
def test_a_mix_by_shares_has_these_shares_and_takes_all_it_can(sources, seed):
    shares = [weight / sum(each for _, each in sources) for _, weight in sources]
    given_ids = [ids(count, f"source-{number}") for number, (count, _) in enumerate(sources)]
    mixture = mixture_by_shares(given_ids, shares, seed)
    counts = Counter(name.split()[0] for name in mixture.of(given_ids))
    per_share = [(share, count) for share, (count, _) in zip(shares, sources, strict=True)]
    largest = max(size for size in range(61 * 40) if all(share * size <= count + 1e-6 for share, count in per_share))
    for number, share in enumerate(shares):
        assert abs(counts[f"source-{number}"] - share * largest) < 1 + 1e-6
    assert counts.total() == largest
    assert mixture.drawn == tuple(counts[f"source-{number}"] for number in range(len(sources)))


def test_a_mix_by_shares_of_a_size_and_wrong_shares():
    sources = [ids(10, "a"), ids(90, "b")]
    assert mixture_by_shares(sources, (0.25, 0.75), 0, size=8).drawn == (2, 6)
    assert mixture_by_shares([ids(9, name) for name in "abc"], (0.333, 0.333, 0.334), 0, size=10).drawn == (3, 3, 4)
    with pytest.raises(MixtureError, match="41 comparisons was asked for, but with these shares the sources yield at most 40"):
        mixture_by_shares(sources, (0.25, 0.75), 0, size=41)
    for shares in ((0.5, 0.6), (1.0, 0.0), (1.0,)):
        with pytest.raises(MixtureError, match="so that they sum to 1"):
            mixture_by_shares(sources, shares, 0)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 12), min_size=1, max_size=3), st.integers(1, 7), st.randoms(use_true_random=False))
def test_rows_are_written_in_any_order_whatever_the_bucket(tmp_path_factory, sizes, bucket, rng):
    folder = tmp_path_factory.mktemp("mix")
    sources = [comparisons(size, f"source-{number}") for number, size in enumerate(sizes)]
    paths = [folder / f"{number}.parquet" for number in range(len(sizes))]
    for path, records in zip(paths, sources, strict=True):
        write_records(path, records, Comparison)
    together = [record for records in sources for record in records]
    order = rng.sample(range(len(together)), rng.randint(0, len(together)))
    write_in_order(folder / "out.parquet", paths, order, Comparison, bucket=bucket)
    assert read_records(folder / "out.parquet", Comparison) == [together[place] for place in order]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*(path.name for path in paths), "out.parquet"])


def test_records_and_tables_do_not_mix_in_one_file(tmp_path):
    records = comparisons(3, "s")
    with RecordWriter(tmp_path / "f.parquet", Comparison) as writer:
        writer.write_table(table_of(records[:1], Comparison))
        writer.write(records[1:])
        with pytest.raises(ValueError, match="write either records or tables"):
            writer.write_table(table_of(records, Comparison))
    assert read_records(tmp_path / "f.parquet", Comparison) == records
    assert num_records(tmp_path / "f.parquet") == writer.written == 3


def test_prefixes_of_a_dialogue_fall_on_one_side():
    rng = random.Random(0)
    for number in range(200):
        first, share, seed = user(f"question {number}"), rng.random() * 0.99, rng.randint(0, 9)
        longer = [first, assistant("so"), user("and?")]
        with_system = [{"role": "system", "content": "Be brief."}, user(f" question {number}\n")]
        assert is_held_out([first], share, seed) == is_held_out(longer, share, seed) == is_held_out(with_system, share, seed)


def test_shares_hold_on_average_and_sides_never_move():
    held = sum(is_held_out([user(f"prompt {number}")], 0.05, 3) for number in range(20_000))
    assert held / 20_000 == pytest.approx(0.05, abs=0.01)
    # printf '0\x1fabc' | sha256sum starts with 6d8b, and 0x6d8b / 0x10000 = 0.42790.
    assert is_held_out([user("abc")], 0.4280, 0) and not is_held_out([user("abc")], 0.4278, 0)
    sides = {tuple(is_held_out([user(f"prompt {number}")], 0.5, seed) for number in range(100)) for seed in range(3)}
    assert len(sides) == 3


def test_a_larger_share_holds_out_what_the_smaller_one_did():
    for number in range(300):
        prompt = [user(str(number))]
        assert is_held_out(prompt, 0.3, 0) or not is_held_out(prompt, 0.2, 0)


def test_a_share_of_nothing_takes_nothing_and_wrong_shares_are_refused():
    assert not any(is_held_out([user(str(number))], 0.0, 0) for number in range(50))
    for share in (-0.1, 1.0):
        with pytest.raises(ValueError, match="at least 0 and less than 1"):
            is_held_out([user("x")], share, 0)


def test_what_is_held_out_elsewhere_is_not_taken():
    own, rest = ["a", None, "b"], [None, "c", "d", None]
    mixture = paper_mixture("helpfulness", own, rest, 0)
    assert sorted(mixture.places) == [0, 2, 4, 5] and mixture.repeated == 0
    assert mixture_by_shares([own, rest], (0.5, 0.5), 0).drawn == (2, 2)
