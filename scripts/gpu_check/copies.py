"""Checks switches between two experts: copied tensor by tensor or as a block, or by pointers and graphs."""

import torch

from experts.inside_vllm.weights.images import CopyImages, Image, PointerImages, weights_of
from memory_tiers.simulator.profiles import Profile
from scripts.gpu_check.clock import seconds_of, settle
from scripts.gpu_check.outcome import Figure, Outcome

LAYERS = 64
WIDTH_ON_CPU = 256
SWITCH_AIM_S = 1e-3


def model_of(size: int, device: torch.device) -> torch.nn.Module:
    """Makes a stack of square layers of ``size`` bytes together, in bfloat16."""
    width = max(64, int((size / LAYERS / 2) ** 0.5) // 64 * 64)
    layers = [
        torch.nn.Linear(width, width, bias=False, device=device, dtype=torch.bfloat16) for _ in range(LAYERS)
    ]
    return torch.nn.Sequential(*layers).requires_grad_(False)


def other_image(model: torch.nn.Module) -> Image:
    """Makes another expert's weights, all in one block as an upload leaves them."""
    weights = weights_of(model)
    block = torch.empty(
        sum(weight.numel() for weight in weights), dtype=weights[0].dtype, device=weights[0].device
    )
    block.normal_(std=0.02)
    parts = block.split([weight.numel() for weight in weights])
    return Image(tuple(part.view(weight.shape) for part, weight in zip(parts, weights, strict=True)))


def check_copies(size: int, device: torch.device, profile: Profile) -> Outcome:
    """Copies an expert into the model's tensors, and compares every weight."""
    model = model_of(size, device)
    image = other_image(model)
    images = CopyImages(model, "a")
    images.add("b", image)
    images.activate("b")
    held = sum(weight.nbytes for weight in weights_of(model))
    equal = all(torch.equal(one, other) for one, other in zip(weights_of(model), image.data, strict=True))
    taken = seconds_of(lambda: images.activate("b"), device)
    flat = image.data[0].as_strided((held // 2,), (1,))
    target = torch.empty_like(flat)
    block = seconds_of(lambda: target.copy_(flat), device)
    most = profile.memory_bytes_per_s / profile.links / 1e9 if device.type == "cuda" else None
    return Outcome(
        "switch by copy",
        () if equal else ("the model's weights are not those that were copied",),
        (
            Figure("tensor by tensor, read and written", 2 * held / taken / 1e9, "GB/s", most),
            Figure("one block, read and written", 2 * held / block / 1e9, "GB/s", most),
            Figure("a switch", taken * 1e3, "ms", SWITCH_AIM_S * 1e3),
        ),
    )


def check_flips(size: int, device: torch.device) -> Outcome:
    """Activates by pointers, and with each expert's own graph where there are graphs."""
    model = model_of(size, device)
    x = torch.randn(4, model[0].in_features, device=device, dtype=torch.bfloat16)
    images = PointerImages(model, "a")
    images.add("b", other_image(model))
    wanted = {}
    for name in ("a", "b"):
        images.activate(name)
        wanted[name] = model(x).clone()
    order = iter(["a", "b"] * 10)
    taken = seconds_of(lambda: images.activate(next(order)), torch.device("cpu"))
    figures = [Figure("a flip", taken * 1e3, "ms", SWITCH_AIM_S * 1e3)]
    wrong = [] if not torch.equal(wanted["a"], wanted["b"]) else ["the two experts compute the same"]
    if device.type == "cuda":
        wrong += _with_graphs(model, images, x, wanted, figures)
    for name in ("b", "a", "b"):
        images.activate(name)
        if not torch.equal(model(x), wanted[name]):
            wrong.append(f"after a flip the model does not compute with {name}")
    return Outcome("switch by pointers", tuple(wrong), tuple(figures))


def _with_graphs(
    model: torch.nn.Module,
    images: PointerImages,
    x: torch.Tensor,
    wanted: dict[str, torch.Tensor],
    figures: list[Figure],
) -> list[str]:
    """Captures a graph for each expert, in one pool, and replays them in turn."""
    pool, graphs, outputs, wrong = torch.cuda.graph_pool_handle(), {}, {}, []
    settle(x.device)
    before = torch.cuda.mem_get_info(x.device)[0]
    for name in wanted:
        images.activate(name)
        graphs[name] = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graphs[name], pool=pool):
            outputs[name] = model(x)
    settle(x.device)
    used = before - torch.cuda.mem_get_info(x.device)[0]
    figures.append(Figure("memory of a set of one graph", used / len(graphs) / 2**20, "MiB"))
    for name in ("b", "a", "b", "a"):
        graphs[name].replay()
        settle(x.device)
        if not torch.allclose(outputs[name], wanted[name], rtol=2e-2, atol=2e-2):
            wrong.append(f"the graph of {name} does not compute with {name}")
    return wrong
