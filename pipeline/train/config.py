"""Settings of a run: optimizer, loop, checkpoints, session and monitor."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from model.config import LossConfig, ModelConfig, Section
from pipeline.data.config import DataConfig

__all__ = ["CheckpointConfig", "MonitorConfig", "OptimConfig", "RunConfig", "SessionConfig", "TrainConfig"]


class OptimConfig(Section):
    """Optimizer and learning rate; the rate is a pure function of the step."""

    name: Literal["sgd", "adamw"] = "adamw"
    """`sgd` with momentum, as in the paper, or `adamw`."""
    lr: float = Field(1e-4, gt=0)
    """Peak rate of the decoder."""
    encoder_lr_ratio: float = Field(0.1, ge=0, le=1)
    """The encoder's rate as a share of `lr`; 0.1 in the paper. Use 1 for an encoder without pretrained weights."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """SGD only."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.999)
    """AdamW only."""
    weight_decay: float = Field(1e-4, ge=0)
    """Applied to convolution weights; biases and norms are exempt."""
    fused: bool | None = None
    """One kernel for the whole update; None: on the CPU, where it is faster, and on a GPU unless train.precision is
    fp16 (skipped steps could not be told then)."""
    clip_grad_norm: float | None = Field(None, gt=0)
    """Largest l2 norm of the gradient; None does not clip."""
    ema_decay: float | None = Field(None, gt=0, lt=1)
    """Share of the former average that an exponential moving average of the weights keeps at each step, 0.999 say; the
    average is then what is evaluated and exported. None keeps none."""
    schedule: Literal["constant", "step", "poly", "cosine"] = "cosine"
    """How the rate falls over the run."""
    warmup_steps: int = Field(0, ge=0)
    """Steps of linear warm-up from zero."""
    milestones: tuple[float, ...] = (0.6, 0.85)
    """`step`: the rate is multiplied by `gamma` at these shares of the run."""
    gamma: float = Field(0.1, gt=0, le=1)
    """`step`: factor at each milestone."""
    power: float = Field(0.9, gt=0)
    """`poly`: rate ~ (1 - progress) ** power."""
    final_lr_ratio: float = Field(0.0, ge=0, le=1)
    """`poly` and `cosine`: the rate at the end as a share of `lr`."""

    @field_validator("milestones")
    @classmethod
    def _rising_shares(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if list(milestones) != sorted(set(milestones)) or any(not 0 < m < 1 for m in milestones):
            raise ValueError("needs rising shares of the run between 0 and 1")
        return milestones


class TrainConfig(Section):
    """The loop. Exactly one of `steps` and `epochs` says how long."""

    exclusive: ClassVar[tuple[str, str]] = ("steps", "epochs")
    """An override of one of these replaces the other."""

    steps: int | None = Field(None, ge=1)
    """Optimizer steps."""
    epochs: float | None = Field(None, gt=0)
    """Passes over the training samples; rounded up to whole steps."""
    batch_size: int = Field(8, ge=1)
    """Samples of one optimizer step over all processes; part of what a step means, the same on any number of GPUs."""
    micro_batch_size: int | None = Field(None, ge=1)
    """Samples a process sends through the network at once, accumulating gradients; None takes its whole share."""
    size: tuple[int, int] = (384, 384)
    """Height and width of the network's input in pixels; one number means a square. Multiples of 32."""
    seed: int = Field(0, ge=0)
    """Seeds the sample order, the augmentation, the pairs and the initial weights."""
    threads: int = Field(0, ge=0)
    """CPU threads a process; 0 divides the node's cores among its processes. Recorded: it changes float results."""
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    """Arithmetic of the forward pass: `fp16` needs a GPU, `bf16` one of Ampere or later, or a CPU. In `fp32` those GPUs
    compute convolutions in TF32, which is torch's default."""
    reduction: Literal["mean", "sum"] = "mean"
    """How the loss of a step is normalised: `mean` over the pairs or pixels kept in the whole step, on all processes;
    `sum` over those of a picture as in the paper's Eq. 2, averaged over the pictures of the step."""
    channels_last: bool = False
    """Store feature maps with their channels together; faster where the convolutions are made for it."""
    deterministic: bool = False
    """On a GPU, only algorithms whose results repeat bit for bit, some of them slower; a CPU needs no such setting."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, faster steps afterwards; needs a C++ compiler."""

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, size: object) -> object:
        return (size, size) if isinstance(size, int) else size

    @field_validator("size")
    @classmethod
    def _multiples_of_the_stride(cls, size: tuple[int, int]) -> tuple[int, int]:
        if any(side < 32 or side % 32 for side in size):
            raise ValueError(f"{list(size)}: both sides must be positive multiples of 32")
        return size

    @model_validator(mode="after")
    def _one_duration(self) -> "TrainConfig":
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of `steps` and `epochs`")
        return self


class CheckpointConfig(Section):
    """When to save, what to keep, where to resume from."""

    every_steps: int = Field(1000, ge=1)
    """Steps between two checkpoints."""
    keep_last: int = Field(2, ge=2)
    """Newest checkpoints that are kept."""
    keep_every_steps: int | None = Field(None, ge=1)
    """Besides, keep those whose step is a multiple of this."""
    resume: str = "auto"
    """`auto`: this run's newest valid checkpoint, wherever it lies; of equal steps that of the run folder, then of
    `search` in its order, then of `mirror`. `none`: refuse to touch a run that has one, here or at the
    mirror; else a checkpoint."""
    search: tuple[str, ...] = ()
    """More run folders, or globs of them, where `auto` looks for checkpoints of the same run; never written to."""
    mirror: str | None = None
    """Copy each checkpoint to this folder as well, an fsspec URL such as `s3://bucket/runs`, in the background; a
    session on another machine finds it there again."""
    init_from: str | None = None
    """Start a new run from the weights of this run or checkpoint; optimizer and step start afresh."""


class SessionConfig(Section):
    """When to stop early and in order."""

    max_hours: float | None = Field(None, gt=0)
    """Wall-clock budget of one session in hours; the run stops in time to save."""
    hang_minutes: float = Field(30.0, gt=0)
    """A process that gets no further for so long, or waits so long for another one, ends the job with a message."""
    stop_file: str = "STOP"
    """A file of this name in the run folder stops the run at the next step; it is removed afterwards."""

    @field_validator("stop_file")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not name or "/" in name or name in {".", ".."}:
            raise ValueError(f"{name!r} must be a plain file name")
        return name


class MonitorConfig(Section):
    """What a person sees of a run."""

    log_every_steps: int = Field(50, ge=1)
    """A step line, `metrics.jsonl` and TensorBoard scalars."""
    eval_every_steps: int | None = Field(None, ge=1)
    """WHDR on the validation split; None: only at the end."""
    image_every_steps: int | None = Field(None, ge=1)
    """Image grid on fixed validation pictures; None: with each evaluation."""
    num_images: int = Field(4, ge=0, le=16)
    """Pictures in the grid."""
    max_val_samples: int | None = Field(None, ge=1)
    """Evaluate on the first so many validation samples only."""
    log_samples: bool = False
    """Write which samples each step consumed into `samples.jsonl`, a line a step."""
    tensorboard: bool = True
    """Write scalars and pictures for TensorBoard."""


class RunConfig(Section):
    """Everything that one training run depends on."""

    run: str
    """Run folder; its last component is the run's id, by which checkpoints elsewhere are recognised."""
    data: DataConfig
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig
    checkpoint: CheckpointConfig = CheckpointConfig()
    session: SessionConfig = SessionConfig()
    monitor: MonitorConfig = MonitorConfig()

    @model_validator(mode="after")
    def _batch_norm_sees_two_values(self) -> "RunConfig":
        trains_norms = self.model.name == "sgr" or not (
            self.model.freeze_bn or self.model.encoder.startswith("convnext")
        )
        if self.train.size == (32, 32) and 1 in (self.train.batch_size, self.train.micro_batch_size) and trains_norms:
            raise ValueError(
                "train.size: at 32 x 32 batch norm needs two pictures at a time; take more, or a larger size"
            )
        return self

    @model_validator(mode="after")
    def _skipped_steps_can_be_told(self) -> "RunConfig":
        if self.optim.fused and self.train.precision == "fp16":
            raise ValueError("optim.fused: with train.precision fp16 a skipped step could not be told; leave it out")
        return self
