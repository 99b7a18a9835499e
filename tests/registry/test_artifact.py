import pytest

from registry.artifact import KINDS, Reference
from registry.errors import InvalidName


@pytest.mark.parametrize("text", ["policy/sft", "policy/sft@1", "reward_model/helpfulness@12", "study/k-sweep_1.5@3"])
def test_a_reference_reads_back_as_it_was_written(text: str) -> None:
    assert str(Reference.parse(text)) == text


def test_a_reference_has_three_parts() -> None:
    assert Reference.parse("policy/v3-gatt@2") == Reference("policy", "v3-gatt", 2)
    assert Reference.parse("policy/sft") == Reference("policy", "sft", None)


@pytest.mark.parametrize(
    "name", ["..", ".hidden", "../../etc", "a/b", "a\\b", "Upper", "with space", "", "-dash", "line\n", "naïve", "a@b"]
)
def test_names_that_could_leave_the_folder_are_rejected(name: str) -> None:
    with pytest.raises(InvalidName):
        Reference.parse(f"policy/{name}")
    with pytest.raises(InvalidName, match="cannot be a name"):
        Reference("policy", name)


@pytest.mark.parametrize("revision", ["0", "-1", "x", "", "01", "1.5", "²", "1@2"])
def test_revisions_count_from_one(revision: str) -> None:
    with pytest.raises(InvalidName, match="revisions are 1, 2, 3"):
        Reference.parse(f"policy/sft@{revision}")
    with pytest.raises(InvalidName, match="asks for revision 0"):
        Reference("policy", "sft", 0)


def test_an_unknown_kind_is_told_the_near_one_and_all() -> None:
    with pytest.raises(InvalidName, match=r"Did you mean policy\?") as caught:
        Reference.parse("polcy/sft")
    assert all(kind in str(caught.value) for kind in KINDS)


def test_a_bare_name_is_told_the_form() -> None:
    with pytest.raises(InvalidName, match="write kind/name or kind/name@revision"):
        Reference.parse("sft")
