"""An expert: its configuration, and its description once it is prepared."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, PlainValidator, model_validator

EngineMode = Literal["interleaved", "plain", "lora", "simulated"]
Task = Literal["generate", "embed"]
"""The purpose of an expert: it writes text, or gives a text's vector."""
Capability = Literal["tools", "images", "audio", "files"]
"""A need that a request may have beside an answer in text."""
CAPTURED_SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Sizes of batches that each expert has a CUDA graph of, where each has its own. Larger batches, and those
with prompts, have none."""


STORES = {"s3": "s3", "gs": "gcs", "az": "azure", "http": "http", "https": "http"}
"""Schemes of URLs that checkpoints are read from, and the extra of this package for each."""


class Strict(BaseModel):
    """A frozen piece of the configuration tree: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _store_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    bucket = rest.partition("/")[0]
    if not separator or scheme not in STORES:
        raise ValueError(f"{url!r} does not begin with {', '.join(f'{known}://' for known in STORES)}")
    if not bucket:
        raise ValueError(f"{url!r} names no {'host' if STORES[scheme] == 'http' else 'bucket'}")
    if "@" in bucket or (STORES[scheme] == "http" and ("?" in rest or "#" in rest)):
        raise ValueError(
            "it is a folder's, without user, password or query; credentials belong in the environment"
        )
    return url.rstrip("/")


class CheckpointSource(Strict):
    """Where an expert's weights come from: exactly one of ``folder``, ``huggingface``, ``url`` and
    ``embedded``."""

    folder: Path | None = None
    """A local folder in Hugging Face layout (config.json, *.safetensors, tokenizer.json). In a family with
    mode lora, here and on the hub: adapter_config.json, adapter_model.safetensors."""
    huggingface: str | None = None
    """A repository name such as ``Qwen/Qwen2-7B-Instruct``. HF_HUB_OFFLINE and HF_ENDPOINT are honoured."""
    revision: str | None = None
    """Branch, tag or commit of the Hugging Face repository; absent means its default branch."""
    url: Annotated[str, AfterValidator(_store_url)] | None = None
    """A folder of an object store or a web server: ``s3://bucket/model``, ``gs://``, ``az://``, ``https://``.
    Address and credentials are those of the store's own programs (``AWS_PROFILE``, ``AWS_ENDPOINT_URL``)."""
    embedded: str | None = None
    """``base``, or the name of an adapter shipped in ``experts/embedded``; it is merged into the base, except
    in a family with mode lora."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        places = ("folder", "huggingface", "url", "embedded")
        if sum(getattr(self, name) is not None for name in places) != 1:
            raise ValueError(f"give exactly one of {', '.join(places)}")
        if self.revision is not None and self.huggingface is None:
            raise ValueError("revision belongs to huggingface")
        return self


class GenerationConfig(Strict):
    """Sampling defaults of an expert, used where a request does not say otherwise."""

    temperature: float | None = Field(default=None, ge=0)
    """Sampling temperature; absent means the checkpoint's generation_config.json, then vLLM's default."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Nucleus sampling mass."""
    top_k: int | None = Field(default=None, ge=-1)
    """Candidates kept at each step; -1 keeps all."""
    repetition_penalty: float | None = Field(default=None, gt=0)
    """Above 1 discourages repeated tokens."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest answer in tokens; absent means what the context leaves."""


class ExpertConfig(Strict):
    """One expert of the configuration; its name is its key."""

    family: str
    """Key of ``families``: experts with the same architecture, shapes, dtype and tokenizer."""
    checkpoint: CheckpointSource
    """Where the weights come from."""
    description: str = ""
    """One line for people, shown by ``coe experts list`` and ``/v1/models``."""
    parameters_billion: float | None = Field(default=None, gt=0)
    """Parameter count for budgets; absent means counted from the prepared checkpoint."""
    pinned: bool = False
    """Keep on the device always."""
    default: bool = False
    """Load when the server starts, and again when no other was asked for in a while:
    ``tiers.return_to_default_s``. Unlike a pinned expert it makes room for others meanwhile."""
    ttl_s: float | None = Field(default=None, gt=0)
    """Seconds it stays on the device unused; absent means ``tiers.ttl_s``."""
    capabilities: tuple[Capability, ...] | None = None
    """The input it takes beside text: some of ``tools``, ``images``, ``audio``, ``files``; [] is text alone.
    A request that needs another one goes to an expert that has it, and is refused where none does. Absent
    means not known: nothing is ruled out here, and what it cannot its engine refuses."""
    generation: GenerationConfig = GenerationConfig()
    """Overrides of the checkpoint's sampling defaults."""
    chat_template: Path | None = None
    """A Jinja file that replaces the checkpoint's chat template."""


class SimulationConfig(Strict):
    """Speeds of the simulated engine (development and load tests of the gateway only)."""

    start_s: float = Field(default=0.0, ge=0)
    """Seconds from start to ready."""
    load_bytes_per_s: ByteSize = ByteSize(2 * 2**30)
    """Bandwidth from host memory to the device."""
    switch_s: float = Field(default=0.002, ge=0)
    """Seconds one switch takes."""
    tokens_per_s: float = Field(default=200.0, gt=0)
    """Tokens a second of one stream."""
    kv_tokens: int = Field(default=65536, gt=0)
    """Tokens of prompts and answers that its KV cache is said to hold; more are answered all the same."""
    streams: int | None = Field(default=None, ge=1)
    """Answers computed at once; further ones wait. Absent means any number."""
    process: bool = False
    """Whether it is a process of its own, asked over HTTP as vLLM is, and not a part of the gateway."""


def _replicas(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return value
    raise ValueError(f"{value!r} is neither auto nor a whole number from 1")


Replicas = Annotated[int | Literal["auto"], PlainValidator(_replicas)]


class FamilyConfig(Strict):
    """How the engine of one family is run."""

    task: Task = "generate"
    """``generate``: the experts write text. ``embed``: they are embedding models, asked at ``/v1/embeddings``
    and for nothing else; the mode is then ``plain`` (or ``simulated``)."""
    mode: EngineMode = "interleaved"
    """``interleaved``: one vLLM engine, all experts token by token. ``plain``: unmodified vLLM that pauses,
    reloads and resumes, one resident expert at a time. ``lora``: one vLLM engine, all experts are LoRA
    adapters of one base, in the same batch. ``simulated``: no model, for development."""
    base: CheckpointSource | None = None
    """Mode lora: the checkpoint that the experts are adapters of. An expert with this very checkpoint is the
    base itself."""
    max_loras: int = Field(default=8, ge=2)
    """Mode lora: experts on the device at once. Each takes a place of the largest adapter's rank, whether
    or not it is filled; the base's memory is held as long as the engine runs."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Computing type. ``auto`` on CPU is bfloat16 where the processor computes it natively and the first
    expert's canary proves it right, else float32; on CUDA it is left to vLLM (a type of 16 bits)."""
    max_model_len: int | None = Field(default=None, ge=64)
    """Longest prompt plus answer, in tokens. Absent means the checkpoint's own, lowered to what fits the KV
    pool; the log says so."""
    kv_cache: ByteSize | None = None
    """Memory of the KV pool all experts of the family share, on each GPU. Absent means what experts and a
    reserve of a tenth leave of a GPU; on CPU an eighth of main memory over all engines, at most 4 GiB."""
    max_num_seqs: int | None = Field(default=None, ge=1)
    """Sequences computed at once. Absent means as many of 2,048 tokens as the KV pool holds, from 8 to 256;
    on CPU to 32."""
    switch_overhead: float = Field(default=0.1, gt=0, le=1)
    """Largest share of the engine's time that switches between experts with work may take. An expert keeps
    the engine until its switch is paid for by what it computed, then the longest waiting has its turn."""
    max_turn_wait_s: float = Field(default=1.0, gt=0)
    """Longest wait of a resident expert for its turn while another admits the requests that piled up for
    it. Where experts are too many or switches too dear to keep switch_overhead too, switch_overhead wins."""
    max_stall_ms: float = Field(default=50.0, gt=0)
    """Longest an interleaved engine stops computing at a time, in milliseconds, while an expert is loaded."""
    tensor_parallel_size: int = Field(default=1, ge=1)
    """GPUs one engine spans."""
    devices: tuple[int, ...] = ()
    """Numbers of the GPUs the engine may use (CUDA_VISIBLE_DEVICES); empty: whatever the environment says."""
    replicas: Replicas = 1
    """Engines of the family, each on ``tensor_parallel_size`` of its ``devices`` in turn (of the node's GPUs
    where none are named), over one host tier. An expert in demand is on several of them, a conversation stays
    where its prefix is cached, and the end of one engine ends no other. ``auto``: as many as there are GPUs
    for; without GPUs one, as engines on one processor take it from each other."""
    cuda_graphs: Literal["each", "shared"] = "each"
    """On CUDA, in mode interleaved: ``each``: every expert has graphs of its own for batches of up to 64
    sequences, so a switch sets pointers and copies nothing. ``shared``: one set, as vLLM captures it, into
    whose weights each expert is copied when it has its turn. ``--enforce-eager`` in ``extra_args``: none."""
    start_timeout_s: float = Field(default=900.0, gt=0)
    """Give up a start after this long; a process that ends is noticed at once."""
    sleep_after_s: float | None = Field(default=None, gt=0)
    """Seconds after which an unused engine sleeps, unless one of its experts is pinned or a default: it gives
    weights and KV pool back and keeps its processes, so that the next request waits for a load and for no
    start. Absent means never. Mode interleaved or simulated."""
    tool_parser: str | None = None
    """How the family's models write tool calls, by the name of vLLM's parser: ``hermes``, ``llama3_json``,
    ``mistral``, ... Absent means that no expert of the family takes tools."""
    reasoning_parser: str | None = None
    """How the family's models write their reasoning, by the name of vLLM's parser: ``qwen3``,
    ``deepseek_r1``, ... Absent means that it is part of the answer's text."""
    extra_args: tuple[str, ...] = ()
    """More arguments for vLLM's server, as they stand. Those that would break turns are refused with their
    reason: other ways to be parallel, KV connectors that mix experts. ``--async-scheduling`` has a GPU wait
    less between steps; no GPU has run it."""
    simulation: SimulationConfig = SimulationConfig()
    """Speeds used when ``mode`` is ``simulated``."""

    @model_validator(mode="after")
    def _base_goes_with_lora(self) -> Self:
        if (self.mode == "lora") != (self.base is not None):
            raise ValueError("mode lora needs a base, and no other mode has one")
        return self

    @model_validator(mode="after")
    def _has_devices_for_each_replica(self) -> Self:
        needed = self.engines * self.tensor_parallel_size
        if self.engines > 1 and self.devices and len(self.devices) < needed:
            raise ValueError(
                f"{self.replicas} replicas of tensor_parallel_size {self.tensor_parallel_size} need {needed} "
                f"devices, and {len(self.devices)} are named"
            )
        return self

    @model_validator(mode="after")
    def _sleeps_in_an_engine_that_can(self) -> Self:
        if self.sleep_after_s is not None and self.cuda_graphs == "shared":
            raise ValueError(
                "sleep_after_s goes with cuda_graphs: each: a KV pool that comes back is not where shared "
                "graphs read it"
            )
        if self.sleep_after_s is not None and self.mode not in ("interleaved", "simulated"):
            raise ValueError(
                f"sleep_after_s goes with mode interleaved, and not with {self.mode}: leave it out, or give "
                "tiers.engine_idle_s, after which an engine is stopped"
            )
        return self

    @model_validator(mode="after")
    def _embeds_in_an_engine_that_can(self) -> Self:
        if self.task == "generate":
            return self
        if self.mode not in ("plain", "simulated"):
            raise ValueError(
                f"task embed goes with mode plain, and not with {self.mode}: vLLM's pooling runner does not "
                "tell the engine which expert a request is for; write mode: plain"
            )
        if self.tool_parser is not None or self.reasoning_parser is not None:
            raise ValueError(
                "an embedding model writes nothing to parse; leave out tool_parser and reasoning_parser"
            )
        return self

    @property
    def engines(self) -> int:
        """How many engines the family has, once that is settled."""
        return self.replicas if isinstance(self.replicas, int) else 1

    @property
    def context(self) -> int:
        """Tokens of the longest prompt plus answer; 2,048 where nothing chose it (a simulated engine)."""
        return self.max_model_len or 2048

    @property
    def parses_tools(self) -> bool:
        """Whether the engine can tell a tool call from text."""
        if self.task == "embed":
            return False
        named = any(argument.startswith("--tool-call-parser") for argument in self.extra_args)
        return self.mode == "simulated" or self.tool_parser is not None or named


@dataclass(frozen=True, slots=True)
class Canary:
    """An expert's known answer in float32: the greedy continuation ``tokens`` of ``prompt``, both as token
    ids, and the natural logarithm of the probability that it gives each of them."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.prompt or not 2 < len(self.tokens) == len(self.logprobs):
            raise ValueError("a canary has a prompt, some tokens, and a log-probability for each of them")

    @property
    def perplexity(self) -> float:
        """Perplexity of the expert on its own continuation: 1 where it is sure of each token."""
        return math.exp(-sum(self.logprobs) / len(self.logprobs))


@dataclass(frozen=True, slots=True)
class Generation:
    """Sampling defaults and stop tokens as the gateway applies them. None: leave it to vLLM."""

    stop_token_ids: tuple[int, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Expert:
    """A prepared expert.

    ``folder`` holds config.json, one or more *.safetensors, the tokenizer and generation_config.json.
    ``weights_bytes`` is the size of the safetensors files; ``parameters`` the number of weights.
    ``fingerprint`` is equal for experts that can take turns in one engine (architecture, tensor names,
    shapes, dtypes and tokenizer). ``canary``: None where preparation could not compute one.
    ``checksums`` (``experts.checkpoints.hashing``) are of its files, by name; those an earlier version
    prepared have none. ``parses_tools``: whether its family's engine can tell a tool call from text.

    An expert that embeds may have an empty ``chat_template``, and has no canary.

    Of a LoRA family: ``folder`` holds the adapter's two files and the base's config and tokenizer,
    ``weights_bytes`` is the adapter's (0: the base itself), ``parameters`` counts the base and the adapter,
    ``fingerprint`` is the base's.
    """

    name: str
    family: str
    folder: Path
    weights_bytes: int
    parameters: int
    fingerprint: str
    chat_template: str
    generation: Generation = Generation()
    canary: Canary | None = None
    description: str = ""
    pinned: bool = False
    default: bool = False
    ttl_s: float | None = None
    capabilities: tuple[Capability, ...] | None = None
    parses_tools: bool = True
    task: Task = "generate"
    checksums: Mapping[str, str] = field(default_factory=dict, hash=False)
