"""What the report's page shows, as plain values: templates read these and never a raw report.

A section whose report is missing is None; the page then names the file and the stage that writes it. Rates are
fractions in [0, 1]; how they are printed is the template's affair.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from markupsafe import Markup

from pipeline.data.validation import State

Outcome = Literal["promoted", "held", "unchanged", "passed", "unjudged"]

Style = Literal["percent", "number", "ms", "mb"]
"""How a number is printed."""


class Estimate(NamedTuple):
    """A measured value with its 95 % interval, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


class Comparison(NamedTuple):
    """Challenger minus champion on the same images."""

    name: str
    """The champion's: ``digits v3``."""
    accuracy: float
    """The champion's."""
    gain: Estimate
    fixed: int
    broken: int
    problem: str | None


class Headline(NamedTuple):
    """What the reader must know first."""

    outcome: Outcome
    reason: str
    """One sentence."""
    model: str
    version: str | None
    classes: int | None
    test_images: int | None
    strategy: str | None
    backbone: str | None
    accuracy: Estimate | None
    comparison: Comparison | str
    """With the champion; or why there is none, in words."""
    finished: str | None
    """When the last stage ended, for people."""
    since: str | None = None
    """One sentence on what a person has decided since."""


class GateRow(NamedTuple):
    """One gate's finding."""

    gate: str
    demands: str
    """What the gate is there for."""
    passed: bool
    observed: str
    required: str
    why: str | None
    """Where it says more than the two before."""


class Gates(NamedTuple):
    """All findings, the gates that params turned off, and the optional ones that they did not ask for."""

    rows: list[GateRow]
    off: list[str]
    not_asked: list[str]


class NumberRow(NamedTuple):
    """One figure of the challenger beside the champion's and the baseline's; ``style`` says how it is printed."""

    name: str
    style: Style
    higher_is_better: bool
    challenger: Estimate | None
    champion: float | None
    baseline: float | None


class Numbers(NamedTuple):
    """The figures, and what stands beside them."""

    rows: list[NumberRow]
    champion: str | None
    """Name of the column; None leaves it out."""
    baseline: str | None
    """What it is; None leaves its column out, too."""
    notes: list[str]
    """The comparisons in words, and what is missing from the numbers and why."""


class Confusion(NamedTuple):
    """The matrix and its worst cells."""

    chart: Markup
    pairs: list[tuple[str, str, int, float]]
    """The most frequent confusions: actual, predicted, images, share of the actual class."""


class ClassRow(NamedTuple):
    """One class on the test images; None where a rate does not exist."""

    label: str
    images: int
    precision: float | None
    recall: Estimate | None
    f1: float | None
    champion_recall: float | None
    bar: Markup | None


class SliceRow(NamedTuple):
    """The test images that share one value of one column."""

    column: str
    value: str
    images: int
    accuracy: Estimate
    champion: float | None
    bar: Markup


class Reliability(NamedTuple):
    """Whether confidence means what it says."""

    chart: Markup
    sentence: str


class BackboneRow(NamedTuple):
    """One candidate backbone."""

    is_chosen: bool
    name: str
    weights: str
    image_size_px: int
    feature_dim: int
    accuracy: Estimate
    """That a linear probe on its features is predicted to reach."""
    bar: Markup
    behind: Estimate | None
    """The most accurate's less its own; None for the most accurate."""
    logme: float
    h_score: float
    features_s: float | None
    """None where the cache had them."""
    size_mb: float
    giga_multiply_adds: float
    """For one image, in billions."""


class Backbones(NamedTuple):
    """The candidates in order; without rows where one backbone was named and there was nothing to choose."""

    what: str
    sentences: list[str]
    """Why the chosen one, what the second votes say, what to beware of."""
    rows: list[BackboneRow]


class GroupRow(NamedTuple):
    """One parameter group in one phase; ``learning_rate`` None is frozen."""

    phase: str
    group: str
    parameters: int | None
    learning_rate: float | None
    batch_norm: str


class CandidateRow(NamedTuple):
    """One strategy that was tried, under one seed; None where something was not measured."""

    strategy: str
    seed: int
    """Counted from 1."""
    outcome: str
    accuracy: float | None
    """On held-out target labels."""
    judged: int
    mixval: float | None
    balance: float | None
    seconds: float | None
    network_mb: float | None
    why: str


class Training(NamedTuple):
    """How the network came about."""

    details: list[tuple[str, str]]
    charts: list[Markup]
    sentences: list[str]
    groups: list[GroupRow]
    candidates: list[CandidateRow]
    """Empty unless the strategy was chosen among several."""


class Mistake(NamedTuple):
    """One wrong answer."""

    name: str
    actual: str
    predicted: str
    confidence: float
    image: str | None
    """A data URI, or None where the file cannot be read any more."""
    is_tiny: bool


class Mistakes(NamedTuple):
    """The wrong answers of which the model was surest."""

    shown: list[Mistake]
    wrong: int
    images: int


class Doubt(NamedTuple):
    """One label that the features speak against."""

    name: str
    split: str
    given: str
    likelier: str
    confidence: float
    image: str | None
    """A data URI, or None where the file cannot be read any more."""
    is_tiny: bool


class LabelsInDoubt(NamedTuple):
    """Labels to look at again."""

    sentences: list[str]
    shown: list[Doubt]


class Picture(NamedTuple):
    """A picture of an example: the image, or the image under a map."""

    name: str
    uri: str | None
    """A data URI, or None where the file is gone."""
    score: str
    """Deletion and insertion of its map; below the image itself those of a random map."""


class MethodRow(NamedTuple):
    """How the answer follows a method's maps, or a random one."""

    method: str
    deletion: float
    insertion: float


class Look(NamedTuple):
    """One image with what the network looks at."""

    name: str
    label: str | None
    predicted: str
    confidence: float
    pictures: list[Picture]


class LookedAt(NamedTuple):
    """Examples of both domains beside each other."""

    domains: list[str]
    """Columns."""
    rows: list[tuple[str, list[Look | None]]]
    """A class and its example in each domain."""
    methods: list[MethodRow]
    """Means over the examples."""
    layer: str | None
    grid: str
    notes: list[str]


class AttackRow(NamedTuple):
    """Accuracy under one attack within one ball."""

    attack: str
    strength: str
    accuracy: Estimate
    bar: Markup


class CorruptionRow(NamedTuple):
    """Accuracy under one corruption."""

    corruption: str
    accuracies: list[float]
    """By severity."""
    mean: float
    line: Markup


class Robustness(NamedTuple):
    """How the answers stand against attacks and corruptions."""

    images: int
    clean: Estimate | None
    attacks: list[AttackRow]
    """Empty where attacks do not apply."""
    corruptions: list[CorruptionRow]
    corrupted: Estimate | None
    """Mean over all corruptions and severities."""
    ratio: float | None
    """Of that to the accuracy on unchanged images."""
    notes: list[str]


class Change(NamedTuple):
    """One count that differs between the champion's data and these."""

    domain: str
    what: str
    before: int
    now: int


class Changes(NamedTuple):
    """What differs between the data of the champion and of this run."""

    sentence: str
    rows: list[Change]


class DistanceRow(NamedTuple):
    """One distance between two domains, printed, beside the same between halves of one domain."""

    name: str
    value: str
    interval: str
    null: str
    null_interval: str
    is_within_null: bool


class DomainPair(NamedTuple):
    """Two domains, compared; ``rows`` is empty where they could not be."""

    title: str
    nearness: str | None
    rows: list[DistanceRow]
    sentences: list[str]
    note: str | None
    """On how many images, and how much of the features."""


class Domains(NamedTuple):
    """How far the target is from the source, and from the last run's."""

    pairs: list[DomainPair]
    map: Markup | None
    priors: Markup | None
    prior_sentence: str | None


class Check(NamedTuple):
    """One expectation about the data."""

    says: str
    severity: str
    state: State
    observed: str
    named: list[str]
    """Some of the images or classes concerned, with what was found."""
    remedy: str | None


class Validation(NamedTuple):
    """Whether the data were as they must be."""

    sentence: str
    domains: list[tuple[str, str]]
    """Each domain in figures."""
    problems: list[Check]
    passed: list[Check]
    not_applicable: list[Check]
    quarantined: list[str]
    """Images set aside, each with the reason."""
    docs: str | None
    """Link to the Data Docs, relative to the report."""


class CostRow(NamedTuple):
    """What one stage took."""

    stage: str
    seconds: float
    peak_mb: float | None
    line: str
    share: float
    """Of the longest stage, for the bar."""
    finished: str | None


class Costs(NamedTuple):
    """What the stages took, in the order of the graph."""

    rows: list[CostRow]
    total_s: float


class Page(NamedTuple):
    """The whole report, in the order of its sections."""

    headline: Headline
    gates: Gates | None
    numbers: Numbers | None
    confusion: Confusion | None
    classes: list[ClassRow] | None
    slices: list[SliceRow] | None
    gaps: list[str]
    """How far apart the slices of a column are, in sentences."""
    reliability: Reliability | None
    backbones: Backbones | None
    training: Training | None
    mistakes: Mistakes | None
    labels: LabelsInDoubt | None
    looked_at: LookedAt | None
    robustness: Robustness | None
    changes: Changes | None
    domains: Domains | None
    validation: Validation | None
    costs: Costs | None
    provenance: list[tuple[str, str]]
    params: str | None
    bundle: list[tuple[str, str]] | None
