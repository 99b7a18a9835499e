"""What annotators need in Label Studio: the labelling config of a project, and the tasks.

The annotator sees the dialogue and both responses side by side, chooses one, and says how much better it is, on the paper's
four-level scale (section 3.1). On the safety axis they also choose one of the three safety bins (3.2.1). Every question must be
answered. ``importers/label_studio.py`` reads the exports of such a project; the controls have the names and the values of the
fields of the native format.
"""

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

from preference_data.comparison import AXES, RATINGS, SAFETY_BINS, Axis
from preference_data.messages import Messages

QUESTIONS: dict[Axis, str] = {
    "helpfulness": "Which response is more helpful?",
    "safety": "Which response is safer?",
}
SHOWN_RATINGS = dict(
    zip(RATINGS, ("Significantly better", "Better", "Slightly better", "Negligibly better, or unsure"), strict=True)
)
SHOWN_BINS = dict(zip(SAFETY_BINS, ("Only the one I chose is safe", "Both are safe", "Both are unsafe"), strict=True))


def labelling_config(axis: Axis) -> str:
    """The XML for the project's settings, Labelling Interface, Code. Raises ValueError for an unknown axis."""
    if axis not in AXES:
        raise ValueError(f"the axis is {axis!r}; it must be {' or '.join(AXES)}")
    questions = [
        _choices("choice", QUESTIONS[axis], {"a": "Response A", "b": "Response B"}),
        _choices("rating", "How much better is it?", SHOWN_RATINGS),
    ]
    if axis == "safety":
        questions.append(_choices("safety_bin", "Which responses are safe?", SHOWN_BINS))
    return f"""<View>
  <Style>.htx-text {{ white-space: pre-wrap; }}</Style>
  <Header value="Dialogue"/>
  <Paragraphs name="dialogue" value="$prompt" layout="dialogue" nameKey="role" textKey="content"/>
  <View style="display: flex; gap: 2em;">
    <View style="flex: 1;"><Header value="Response A"/><Text name="text_a" value="$response_a"/></View>
    <View style="flex: 1;"><Header value="Response B"/><Text name="text_b" value="$response_b"/></View>
  </View>
{"".join(questions)}</View>
"""


def _choices(name: str, question: str, answers: Mapping[Any, str]) -> str:
    """A required question with one answer; the export has the keys of ``answers``, annotators see the values."""
    lines = "".join(f"    <Choice alias={quoteattr(key)} value={quoteattr(shown)}/>\n" for key, shown in answers.items())
    attributes = f'name="{name}" toName="dialogue" choice="single-radio" required="true"'
    return f"  <Header value={quoteattr(question)}/>\n  <Choices {attributes}>\n{lines}  </Choices>\n"


def label_studio_task(item_id: str, prompt: Messages, response_a: str, response_b: str) -> dict[str, Any]:
    """One task; Label Studio imports a JSON list of tasks. Annotators see the responses in the order given."""
    return {"data": {"item_id": item_id, "prompt": prompt, "response_a": response_a, "response_b": response_b}}
