"""Looks in vLLM's sources, without importing them, for what our scheduler, worker and executor hold on to."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Seam:
    """A function, class or name of a file of vLLM's. ``name``: ``Class.function``, or one of the module.
    ``parameters``: those that a function must have, by name. ``attributes``: those that a class must set."""

    file: str
    name: str
    parameters: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()


_SCHEDULER = "v1/core/sched/scheduler.py"
_RUNNER = "v1/worker/gpu_model_runner.py"
_WORKER = "v1/worker/gpu_worker.py"
_RELOAD = "model_executor/model_loader/reload"
SEAMS = (
    Seam(_SCHEDULER, "Scheduler", attributes=(
        "running", "waiting", "kv_holding_waiting", "deferred_waiting", "requests", "vllm_config",
        "prev_step_scheduled_req_ids")),
    Seam(_SCHEDULER, "Scheduler.__init__", ("vllm_config", "kv_cache_config")),
    Seam(_SCHEDULER, "Scheduler.schedule"),
    Seam(_SCHEDULER, "Scheduler.update_from_output", ("scheduler_output", "model_runner_output")),
    Seam(_SCHEDULER, "Scheduler.finish_requests", ("request_ids", "finished_status")),
    Seam("v1/core/sched/async_scheduler.py", "AsyncScheduler"),
    Seam("v1/request.py", "Request", attributes=(
        "num_output_placeholders", "num_prompt_tokens", "num_computed_tokens", "max_tokens")),
    Seam("v1/request.py", "RequestStatus"),
    Seam("v1/outputs.py", "ModelRunnerOutput"),
    Seam("v1/outputs.py", "AsyncModelRunnerOutput.get_output"),
    Seam("v1/kv_cache_interface.py", "KVCacheConfig.needs_kv_cache_zeroing"),
    Seam("v1/engine/__init__.py", "EngineCoreOutput"),
    Seam("v1/engine/__init__.py", "EngineCoreOutputs"),
    Seam(_WORKER, "Worker.load_model"),
    Seam(_WORKER, "Worker.initialize_from_config", ("kv_cache_config",)),
    Seam(_WORKER, "Worker.execute_model", ("scheduler_output",)),
    Seam(_WORKER, "Worker.sample_tokens", ("grammar_output",)),
    Seam(_WORKER, "Worker.compile_or_warm_up_model"),
    Seam(_RUNNER, "GPUModelRunner", attributes=("cudagraph_dispatcher",)),
    Seam(_RUNNER, "GPUModelRunner.capture_model"),
    Seam(_RUNNER, "GPUModelRunner._capture_cudagraphs", ("batch_descriptors", "cudagraph_runtime_mode")),
    Seam("compilation/cuda_graph.py", "CUDAGraphWrapper", attributes=("concrete_cudagraph_entries",)),
    Seam("v1/cudagraph_dispatcher.py", "CudagraphDispatcher", attributes=("cudagraph_keys",)),
    Seam("v1/cudagraph_dispatcher.py", "CudagraphDispatcher.get_capture_descs"),
    Seam("distributed/parallel_state.py", "graph_capture", ("device",)),
    Seam("compilation/monitor.py", "set_cudagraph_capturing_enabled", ("enabled",)),
    Seam("v1/worker/cpu_worker.py", "CPUWorker"),
    Seam("model_executor/layers/utils.py", "dispatch_cpu_unquantized_gemm"),
    Seam("model_executor/layers/utils.py", "check_cpu_sgl_kernel"),
    Seam("_custom_ops.py", "create_onednn_mm"),
    Seam("_custom_ops.py", "onednn_mm"),
    Seam("v1/executor/uniproc_executor.py", "UniProcExecutor.collective_rpc", ("method", "args")),
    Seam("v1/executor/multiproc_executor.py", "MultiprocExecutor.collective_rpc", ("method", "args")),
    Seam(f"{_RELOAD}/meta.py", "SKIP_TENSORS"),
    Seam(f"{_RELOAD}/meta.py", "to_meta_tensor"),
    Seam(f"{_RELOAD}/layerwise.py", "LAYERWISE_INFO"),
    Seam(f"{_RELOAD}/layerwise.py", "_layerwise_process"),
    Seam(f"{_RELOAD}/layerwise.py", "get_layerwise_info"),
    Seam(f"{_RELOAD}/layerwise.py", "initialize_layerwise_reload"),
)  # fmt: skip


def missing_seam(folder: Path | None = None) -> str | None:
    """Returns the first seam that the vLLM in ``folder`` (the installed one) lacks; None where all are there.
    That a seam is there does not prove that it does what it did."""
    folder = folder or installed_sources()
    if folder is None:
        return "vllm is not installed"
    return next((_described(seam) for seam in SEAMS if not _there(folder, seam)), None)


@cache
def installed_sources() -> Path | None:
    """Returns the folder of the installed vLLM; None: there is none."""
    spec = find_spec("vllm")
    return Path(spec.origin).parent if spec is not None and spec.origin is not None else None


def _there(folder: Path, seam: Seam) -> bool:
    names = _names(folder / seam.file)
    found = names.get(seam.name)
    if found is None:
        return False
    if isinstance(found, ast.FunctionDef):
        arguments = found.args
        given = {each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        return given.issuperset(seam.parameters)
    return not seam.attributes or {*_set_on_self(found)}.issuperset(seam.attributes)


@cache
def _names(file: Path) -> dict[str, ast.AST]:
    """Maps the names that a module defines, and its classes' functions, to where it does."""
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, SyntaxError, UnicodeDecodeError):
        return {}
    found: dict[str, ast.AST] = {}
    for node in tree.body:
        for name in _defined(node):
            found[name] = node
        if isinstance(node, ast.ClassDef):
            found |= {
                f"{node.name}.{inner.name}": inner
                for inner in node.body
                if isinstance(inner, ast.FunctionDef)
            }
    return found


def _defined(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        yield node.name
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    yield from (target.id for target in targets if isinstance(target, ast.Name))


def _set_on_self(tree: ast.AST) -> Iterator[str]:
    """Yields the attributes that a class sets on ``self``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def _described(seam: Seam) -> str:
    wanted = ", ".join((*seam.parameters, *seam.attributes))
    return f"{seam.name} in {seam.file}" + (f" with {wanted}" if wanted else "")
