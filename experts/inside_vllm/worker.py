"""A vLLM worker that holds several experts and computes each step with the one the scheduler names.

Methods called ``coe_...`` are reached through ``collective_rpc``, between steps; each returns what the worker
then holds, with an ``error`` where it failed. They do not raise: an exception in one of several workers would
leave the others waiting for it. Memory that runs out is such an error too: what the load had is given back,
and the experts held go on.
"""

import ctypes
import os
import traceback
from functools import partial
from pathlib import Path
from typing import Any

import torch
from vllm.config import set_current_vllm_config
from vllm.logger import init_logger
from vllm.platforms import current_platform
from vllm.v1.core.sched.output import SchedulerOutput
from vllm.version import __version__ as vllm_version

from experts.checkpoints.tensor_headers import check_same_family, read_headers
from experts.errors import LoadFailed
from experts.inside_vllm.graph_sets import TRIAL, GraphSets, graph_sets, on_trial
from experts.inside_vllm.kernels import linear as kernels
from experts.inside_vllm.kernels import norms
from experts.inside_vllm.kv_pool import SleepingPool
from experts.inside_vllm.step_time import StepTime
from experts.inside_vllm.switch_time import SwitchTime
from experts.inside_vllm.weights.arrival import Arrival, Place
from experts.inside_vllm.weights.coverage import cache_scales, check_same_scales, derived_state
from experts.inside_vllm.weights.device_room import check_room, free_on
from experts.inside_vllm.weights.images import CopyImages, Images, PointerImages, weights_of
from experts.inside_vllm.weights.loading import Loading
from experts.inside_vllm.weights.pinning import PinnedFiles
from experts.inside_vllm.weights.reload import bytes_packed_beside, share_kernel, tied_layers
from experts.memory.machine_memory import check_free

if current_platform.is_cpu():
    from vllm.v1.worker.cpu_worker import CPUWorker as PlatformWorker
else:
    from vllm.v1.worker.gpu_worker import Worker as PlatformWorker

logger = init_logger(__name__)
Report = dict[str, Any]


class ExpertWorker(PlatformWorker):
    """Starts with the checkpoint of the expert that ``additional_config["resident"]`` names."""

    beside = not current_platform.is_cpu()
    """Whether the device's memory is another than that which image files are mapped in."""

    @property
    def captures(self) -> bool:
        """Whether batches are computed by graphs, which have captured the addresses of weights."""
        return self.beside and not self.model_config.enforce_eager

    @property
    def copies(self) -> bool:
        """Whether images are copied into the model's tensors, as all experts share one set of graphs. Where
        each has graphs of its own, or there are none, images are pointed at."""
        return self.captures and self.vllm_config.additional_config["cuda_graphs"] == "shared"

    def load_model(self, **kwargs: Any) -> None:
        if current_platform.is_cpu():
            kernels.install(self.model_config.dtype)
            norms.install(self.model_config.dtype)
            _unname_segments()
        super().load_model(**kwargs)
        (first,) = self.vllm_config.additional_config["resident"]
        model = self.model_runner.get_model()
        for layers in tied_layers(model):
            share_kernel(layers, layers[0])
        self._images: Images = (CopyImages if self.copies else PointerImages)(model, first)
        self._family = read_headers(Path(self.model_config.model))
        elements = sum(tensor.parameters for tensor in self._family)
        held = elements * self.model_config.dtype.itemsize // self.parallel_config.tensor_parallel_size
        packed = held + bytes_packed_beside(model)
        self._image_bytes = sum(weight.nbytes for weight in weights_of(model)) if self.beside else packed
        self._timer = SwitchTime()
        self._pinned = PinnedFiles()
        if not current_platform.is_cpu():
            self._timer = SwitchTime(lambda: torch.cuda.Event(enable_timing=True))
            self._pinned = PinnedFiles(device=self.device.index)
        self._step_time = StepTime(self._timer)
        self._derived = derived_state(model, pointers=not self.copies)
        self._scales = cache_scales(Path(self.model_config.model))
        self._activation_bytes = 0
        self._graphs: GraphSets | None = None
        self._shown = first
        self._switches = 0
        self._arrival: Arrival | None = None
        self._asleep: SleepingPool | None = None
        self._slice_seconds = self.vllm_config.additional_config["max_stall_ms"] / 1e3

    def determine_available_memory(self) -> int:
        available: int = super().determine_available_memory()
        if not current_platform.is_cpu():  # what a step may take again at its largest, which no load may take
            used, most = (
                torch.cuda.memory_allocated(self.device),
                torch.cuda.max_memory_allocated(self.device),
            )
            self._activation_bytes = max(0, most - used)
        return available

    def compile_or_warm_up_model(self) -> Any:
        """Takes over the graphs of the first expert, which vLLM captures here."""
        runner, capture, took = self.model_runner, self.model_runner.capture_model, []

        def capture_model() -> int:
            took.append(capture())
            return int(took[-1])

        runner.capture_model = capture_model
        times = super().compile_or_warm_up_model()
        runner.capture_model = capture
        if self.captures and not self.copies and self._images.active is not None:
            self._graphs = graph_sets(self._images.active, runner, sum(took), self._free_bytes)
        return times

    def initialize_from_config(self, kv_cache_config: Any) -> None:
        super().initialize_from_config(kv_cache_config)
        if not current_platform.is_cpu():  # there zeroing blocks needs no preparation
            self.model_runner._init_kv_zero_meta()

    def execute_model(self, scheduler_output: SchedulerOutput) -> Any:
        self._step_time.begin()
        expert = getattr(scheduler_output, "coe_expert", None)
        if (
            expert is not None
            and expert != self._computing
            and scheduler_output.total_num_scheduled_tokens > 0
        ):
            self._switch(expert)
        return self._step_time.add_to(super().execute_model(scheduler_output))

    def sample_tokens(self, grammar_output: Any) -> Any:
        return self._step_time.add_to(super().sample_tokens(grammar_output))

    def coe_load(self, name: str, weights: str, stamp: str, images: str) -> Report:
        """Begins to load ``name`` from the folder ``weights``, and abandons any other load. ``stamp`` changes
        with the folder's files. ``images``: the folder that its image may be kept in; empty: none.

        A load is ``coe_load``, ``coe_load_more`` until all workers answer ``whole``, and ``coe_load_end``;
        steps run in between. Whatever fails, the experts held stay as they are."""
        self._abandon()
        folder = Path(weights)
        try:
            check_same_family(folder, self._family, read_headers(folder))
            check_same_scales(folder, self._scales, cache_scales(folder))
            self._check_loadable(name)
            model, place = self.model_runner.get_model(), self._place(stamp, images)
            load = partial(self._loading, model, name, folder)
            device = self.device if self.beside else None
            self._arrival = Arrival(name, load, place, device, self._pinned)
        except Exception as error:  # noqa: BLE001  # sent to the gateway, which raises it
            return self._failed(name, error)
        return self._report(whole=False)

    def coe_load_more(self, name: str) -> Report:
        """Loads for at most ``max_stall_ms``, as far as can be foreseen."""
        try:
            with set_current_vllm_config(self.vllm_config):
                whole = self._under_way(name).work(self._slice_seconds)
        except Exception as error:  # noqa: BLE001  # sent to the gateway, which raises it
            return self._failed(name, error)
        return self._report(whole=whole)

    def coe_load_end(self, name: str) -> Report:
        """Takes ``name``, which is whole, among the experts held; ``converted`` says whether it came from its
        checkpoint."""
        try:
            arrival = self._under_way(name)
            self._drop_graphs(name)  # those of an image that is replaced
            self._images.add(name, arrival.image())
        except Exception as error:  # noqa: BLE001  # sent to the gateway, which raises it
            return self._failed(name, error)
        self._abandon()
        return self._report(converted=arrival.converted)

    def coe_load_abandon(self, name: str) -> Report:
        """Frees what has been loaded of ``name``, if it is under way."""
        if self._arrival is not None and self._arrival.name == name:
            self._abandon()
        return self._report()

    def coe_graphs(self, name: str) -> Report:
        """Says how many graphs ``name`` lacks (``missing``) and whether the device has ``room`` for them."""
        graphs = self._graphs
        if graphs is None or name not in self._images.names:
            return self._report(missing=0, room=True)
        room = self._free_bytes() - self._activation_bytes >= graphs.needs(name)
        return self._report(missing=graphs.missing(name), room=room)

    def coe_capture(self, name: str) -> Report:
        """Captures one graph of ``name``, which no request uses before ``coe_trust_graphs``. All workers are
        asked at once, as what they capture may need the others; no load is under way."""
        graphs, active = self._graphs, self._images.active
        if graphs is None or name not in self._images.names:
            return self._report()
        self._pinned.wait()  # a thread that pins would spoil what is captured
        try:
            self._activate(name)
            with set_current_vllm_config(self.vllm_config):
                graphs.capture()
        except Exception as error:  # sent to the gateway, which goes on without these graphs
            logger.error("graphs of expert %s could not be captured", name, exc_info=error)
            return self._report(error=f"{type(error).__name__}: {error}")
        finally:
            self._activate(active or name)
        return self._report()

    def coe_try_graphs(self, name: str) -> Report:
        """Says under which name requests are computed by the graphs of ``name`` (``tried_as``), which are not
        trusted yet, until they are or are destroyed."""
        if self._graphs is not None:
            self._graphs.try_out(name)
        return self._report(tried_as=on_trial(name))

    def coe_trust_graphs(self, name: str) -> Report:
        """Has all requests for ``name`` computed by its graphs."""
        if self._graphs is not None:
            self._graphs.trust(name)
            self._tell_graphs()
        return self._report()

    def coe_forget_graphs(self, name: str) -> Report:
        """Destroys the graphs of ``name``."""
        self._drop_graphs(name)
        return self._report()

    def coe_unload(self, name: str) -> Report:
        """Frees the memory of ``name``, if it is held or under way."""
        self._drop_graphs(name)  # they read its weights
        self._images.drop(name)
        self.coe_load_abandon(name)
        _give_memory_back()
        return self._report()

    def coe_sleep(self) -> Report:
        """Gives back the memory of all experts and of the KV pool, which holds nothing then."""
        self._abandon()
        for name in self._images.names:
            self.coe_unload(name)
        self._asleep = self._asleep or SleepingPool(self.model_runner.kv_caches)
        _give_memory_back()
        return self._report()

    def coe_wake(self) -> Report:
        """Takes memory for the KV pool again, zeroed; experts are loaded next."""
        try:
            if self._asleep is not None:
                self._asleep.wake()
                if not current_platform.is_cpu():  # it names addresses
                    self.model_runner._init_kv_zero_meta()
        except Exception as error:  # noqa: BLE001  # sent to the gateway, which raises it
            return self._failed("", error)
        self._asleep = None
        return self._report()

    def coe_statistics(self) -> Report:
        return self._report()

    def _switch(self, expert: str) -> None:
        self._timer.of(lambda: self._activate(expert))
        self._switches += 1

    @property
    def _computing(self) -> str | None:
        """The expert that a step is computed for without a switch."""
        return None if self._images.active is None else self._shown

    def _activate(self, expert: str) -> None:
        """Activates an expert, or one whose graphs are tried."""
        self._images.activate(expert.removesuffix(TRIAL))
        self._shown = expert
        self._tell_graphs()

    def _drop_graphs(self, name: str) -> None:
        """Destroys the graphs of ``name`` once none of them computes: where steps are scheduled ahead, one
        may be under way that no request waits for."""
        if self._graphs is not None:
            if not current_platform.is_cpu():
                torch.cuda.synchronize(self.device)
            self._graphs.drop(name)

    def _tell_graphs(self) -> None:
        if self._graphs is not None and self._images.active is not None:
            self._graphs.show(self._shown)

    def _place(self, stamp: str, images: str) -> Place | None:
        if not images:
            return None
        ranks = f"{self.rank} of {self.parallel_config.world_size}"
        versions = f"{self.model_config.dtype} torch {torch.__version__} vllm {vllm_version}"
        key = f"{type(self._images).__name__} {versions} rank {ranks} {stamp}"
        return Place(Path(images) / f"image-{self.rank}", key)

    def _loading(self, model: torch.nn.Module, name: str, folder: Path) -> Loading:
        if current_platform.is_cpu():
            check_free(self._image_bytes)
        return Loading(model, name, folder)

    def _check_loadable(self, name: str) -> None:
        """Checks that an image can be another expert, and that the device has room for it. Raises LoadFailed,
        torch.OutOfMemoryError."""
        if self._derived is not None and set(self._images.names) - {name}:
            raise LoadFailed(
                f"{self._derived} is derived from weights, and no image carries it: say mode: plain"
            )
        if not current_platform.is_cpu():
            check_room(self._image_bytes, self._free_bytes(), self._activation_bytes)

    def _free_bytes(self) -> int:
        return free_on(self.device)

    def _under_way(self, name: str) -> Arrival:
        if self._arrival is None or self._arrival.name != name:
            raise LoadFailed("its load was abandoned; load it again")
        return self._arrival

    def _abandon(self) -> None:
        if self._arrival is not None:
            self._arrival.close()
            self._arrival = None
            _give_memory_back()

    def _failed(self, name: str, error: Exception) -> Report:
        logger.error("expert %s could not be loaded", name, exc_info=error)
        traceback.clear_frames(error.__traceback__)  # they hold what was loaded
        self.coe_load_abandon(name)
        full = {"full": True} if isinstance(error, torch.OutOfMemoryError) else {}
        return self._report(error=f"{type(error).__name__}: {error}", **full)

    def _report(self, **more: Any) -> Report:
        self._pinned.sweep()
        return {
            "active": self._images.active,
            "resident": list(self._images.names),
            "tried": [] if self._graphs is None else list(self._graphs.tried),
            "switches": self._switches,
            "switch_seconds": self._step_time.switch_seconds,
            "busy_seconds": self._step_time.busy_seconds,
            "captures": self._graphs is not None,
            "held_bytes": self._image_bytes + (0 if self._graphs is None else self._graphs.set_bytes),
            **more,
        }


def _unname_segments() -> None:
    """Removes the names of the shared memory that workers on CPU exchange tensors in, and never remove. All
    have opened it by now (``_CPUSHMDistributed`` waits for that), so it is freed when they end."""
    for segment in Path("/dev/shm").glob(f"{os.environ['VLLM_DIST_IDENT']}-*-cpushm_*"):
        segment.unlink(missing_ok=True)


def _give_memory_back() -> None:
    """Gives freed memory, which glibc and, on CUDA, torch keep, back to the system, where the engines of
    other families find it."""
    if not current_platform.is_cpu():
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
