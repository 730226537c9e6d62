"""The configuration of a run: every part's own config, composed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny, field_validator

from tunesmith.config.base import BY_DATA, BY_ITSELF, Choice, Config
from tunesmith.config.migrate import VERSION
from tunesmith.data.config import DataConfig
from tunesmith.engine.config import ComputeConfig, TrainConfig
from tunesmith.methods import DEFAULT_METHOD, METHODS
from tunesmith.methods.base import Method
from tunesmith.models import MODELS, OTHER_MODELS
from tunesmith.models.base import ModelSource
from tunesmith.tasks import TASKS
from tunesmith.tasks.base import Task


class EvaluationConfig(Config):
    """How the trained model is judged."""

    split: Literal["test", "validation"] = "test"
    """Which rows the trained model is judged on; validation leaves the test rows unread, for a later and final look."""
    num_resamples: int = Field(default=1000, ge=0, le=100_000)
    """Bootstrap replicates behind every interval."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Coverage of the intervals."""
    baseline: bool = True
    """Judge a rival beside the model: TF-IDF with a linear model, trained on the same rows, or, for language models,
    the model as it was before training."""
    answers: Annotated[int, Field(ge=0)] | None = Field(default=None, json_schema_extra=BY_DATA)
    """Have answers written to this many of the judged rows and compare them with the references (exact match, ROUGE,
    chrF, BLEU), before and after training. For tasks that generate; 500 for seq2seq and none for chats when not
    given."""
    max_new_tokens: int = Field(default=256, ge=1)
    """Longest answer, in tokens."""
    general_text: str | None = None
    """Measure what a language model forgets, by its loss before and after training on a text that is not of the data: a
    file, or python-manual, prose of the manual that comes with Python; none for none, as when not given."""
    training_rows: Annotated[int, Field(ge=0)] | None = None
    """Training rows that are scored beside the validation rows at every evaluation, so that overfitting is seen while
    it happens; 0 for none. A tenth of those learned from since the last one, 64 to 512, when not given."""
    keep_scores: bool = False
    """Keep in `scores.npz` what the figures of the judged rows are computed from, row by row, so that runs can be
    compared; and measure how long a prediction takes."""


class TeacherConfig(Config):
    """A finished run, or an ensemble, that the model learns from besides the labels (Hinton et al. 2015)."""

    run: str
    """Folder of the run or ensemble that teaches; it must be of the same task, with the same labels."""
    mix: float = Field(default=0.5, gt=0, le=1)
    """The teacher's share of the loss; the labels have the rest."""
    temperature: float = Field(default=2.0, gt=0, le=100)
    """Softens what both say before it is compared, so that a teacher's unlikely answers count, too."""
    unlabelled: str | None = None
    """A file of further rows without labels, on which only the teacher speaks."""
    num_tokens: int = Field(default=32, ge=1)
    """How many of the likeliest tokens are kept at every place, where the teacher is a language model."""


class TrackerConfig(Config):
    """Programs of others that are told of the run as it goes on, beside TensorBoard."""

    to: Annotated[tuple[Literal["wandb", "mlflow", "trackio"], ...], Field(min_length=1)]
    """wandb (Weights & Biases), mlflow or trackio, or several: `wandb,mlflow`."""
    project: str = Field(default="tunesmith", min_length=1)
    """The project, or experiment, that the run stands in there."""
    name: str | None = None
    """What the run is called there; as its folder when not given."""
    online: bool = False
    """Let wandb send as the run goes on; without it, it writes into files, which `wandb sync` sends. The others send
    where their own environment variables say."""

    @field_validator("to", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value


class FairnessConfig(Config):
    """How groups of training rows are served alike."""

    group: str
    """A column of the data whose values are groups; several with `+` are crossed. The model does not see it."""
    how: Literal["reweight", "balance", "worst-group"] = "reweight"
    """Rows weigh so that group and label have nothing to do with each other (reweight); every group with every label is
    drawn equally often (balance); groups with a label weigh the more, the larger their loss is (worst-group)."""
    sharpness: float = Field(default=5.0, gt=0, le=100)
    """Of worst-group: each weighs as exp(sharpness * its mean loss in the step)."""


class PrivacyConfig(Config):
    """What is promised to those whose rows are trained on, and what is planted to see what is learned by heart."""

    epsilon: float | None = Field(default=None, gt=0, le=1000)
    """Train with differential privacy (Abadi et al. 2016): the most that a row may change what anybody can tell of the
    weights. 8 is weak, 1 strong. A step's rows are drawn by chance, the gradient of each is clipped, noise is added."""
    delta: float | None = Field(default=None, gt=0, lt=1)
    """The probability with which the promise may fail, below 1 / rows; 1 / rows^1.1 when not given."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    """Largest L2 norm of a row's gradient, of its mean loss: longer ones are scaled down."""
    accountant: Literal["prv", "rdp"] = "prv"
    """How epsilon is counted: by numerical composition (`prv`, Gopi et al. 2021) or by Rényi divergences (`rdp`,
    Mironov et al. 2019), which asks for a little more noise."""
    unit: Literal["row", "group"] | None = None
    """Whom the promise is made to: each row, or all rows of one value of `data.group` together (a person's). The group
    where data.group is given, else the row, when not given."""
    canaries: int = Field(default=0, ge=0, le=1000)
    """Plant this many rows with random secrets among the training rows, so that `tunesmith privacy` can measure whether
    they are learned by heart (Carlini et al. 2019). The model is a little worse for them: not for use."""
    canary_repeats: int = Field(default=1, ge=1, le=1000)
    """How often each of them is planted."""


class RunConfig(Config):
    """Everything that decides a run. Saved, with what was detected filled in, as ``config.yaml``."""

    version: Literal[2] = Field(default=VERSION, json_schema_extra=BY_ITSELF)
    """Of the configuration's form; what was written in an earlier one is migrated when it is read."""
    model: Annotated[SerializeAsAny[ModelSource], Choice("model", MODELS, default=OTHER_MODELS)]
    """What is tuned: a hub id, a folder, sample:minilm, or lstm, cnn or transformer (trained from scratch)."""
    data: Annotated[DataConfig, Choice("data", {}, default=DataConfig, key="path")]
    """The rows: a file, a folder, hub:org/name, or sample:rotten-tomatoes."""
    task: Annotated[SerializeAsAny[Task] | None, Choice("task", TASKS)] = None
    """What is learned; found by looking at the data when not given."""
    method: Annotated[SerializeAsAny[Method], Choice("method", METHODS)] = DEFAULT_METHOD
    """Which parameters are trained, and how."""
    teacher: Annotated[TeacherConfig | None, Choice("teacher", {}, default=TeacherConfig, key="run")] = None
    """Whom the model learns from besides the labels: a run or an ensemble."""
    fairness: Annotated[FairnessConfig | None, Choice("fairness", {}, default=FairnessConfig, key="group")] = None
    """Groups of rows that are to be served alike, by a column: fairness.group."""
    privacy: PrivacyConfig | None = None
    """What is promised to those whose rows are trained on, and what is planted to see what is learned by heart."""
    train: TrainConfig = TrainConfig()
    compute: ComputeConfig = ComputeConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    tracker: Annotated[TrackerConfig | None, Choice("tracker", {}, default=TrackerConfig, key="to")] = None
    """Who is told of the run as it goes on, beside TensorBoard: wandb, mlflow, trackio; nobody when not given."""
    output: str | None = None
    """Run directory to create; runs/<data>-<model>-<method> when not given."""
