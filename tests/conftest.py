"""What tests share: the embedded composition, prepared once and kept, and the engine to compare with."""

import gc
import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from experts.checkpoints.prepare import prepare
from experts.engines.nursery import Nurseries
from experts.engines.recording import record_canaries
from experts.progress import silent
from experts.spec import CheckpointSource, ExpertConfig
from router.embedders.embedder import Embedder
from router.embedders.minilm import MiniLmOnnx
from router.embedders.registry import embedder_named
from tests.plain_vllm import PlainVllm, plain_vllm

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

NIGHT = bool(os.environ.get("COE_NIGHT"))
"""Whether tests that repeat do so as often as a night allows."""

LONG = (
    (
        "tests/experts/engines/test_engine_ranks.py",
        "tests/experts/engines/test_engine_switches.py",
        "tests/experts/engines/test_engine_copies.py",
        "tests/experts/engines/test_engine_ahead.py",
        "tests/experts/vllm/test_lora_experts.py",
        "tests/end_to_end/test_page_over_vllm.py",  # before the gateway that both have is ended
        "tests/end_to_end/test_composition.py",
        "tests/end_to_end/test_crash_while_loading.py",
    ),
    ("tests/experts/engines/test_engine_contract.py",),
    ("tests/clients/test_clients.py",),
    ("tests/clients/test_tools.py",),
    ("tests/end_to_end/test_dozen_experts.py",),
    ("tests/experts/engines/test_engine_faults.py",),
    ("tests/server/test_five_hundred_streams.py",),
    ("tests/ui/test_page.py",),
    ("tests/server/test_fuzz.py",),
    ("tests/experts/engines/test_engine_proof.py",),
    ("tests/end_to_end/test_embedding_models.py",),
    ("tests/end_to_end/test_nodes_over_vllm.py",),
)
"""Files that take minutes, the longest first: where several processes share the tests, what is short comes in
the end and makes them even. Those in brackets share engines of the session, and so a process."""

DRAWN = (
    "tests/simulation/test_seeds.py",
    "tests/memory_tiers/traces/test_tier_state_random.py",
    "tests/memory_tiers/traces/test_replicas_random.py",
    "tests/cluster/placement/test_placement_random.py",
)
"""Files of tests that share nothing and take long, as each draws many cases."""

SKIPPED_IN_CI = (
    "there is no CUDA device",
    "root may read everything",
    "this processor has no AVX512-BF16",
    "no memory file system can be mounted",
    "no cgroup with a memory limit can be made",
)
"""Reasons for which a test may be skipped in CI."""

EMBEDDED = {"general": "base", "math": "math", "coding": "coding", "medicine": "medicine", "law": "law"}
"""Expert and what of ``experts/embedded`` it is made of."""


def pytest_configure(config: pytest.Config) -> None:
    """Keeps the checkout's state folder out of reach of configurations that name none."""
    os.environ["COE_STATE"] = tempfile.mkdtemp(prefix="coe-tests-")


def pytest_unconfigure(config: pytest.Config) -> None:
    gc.unfreeze()
    shutil.rmtree(os.environ.pop("COE_STATE"))


@pytest.fixture(autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a state folder of its own; what is made for several has the one that all share."""
    monkeypatch.setenv("COE_STATE", str(tmp_path_factory.getbasetemp() / f"state-{next(_NUMBERS)}"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    apart = [item for item in items if not _applies(item)]
    config.hook.pytest_deselected(items=apart)
    items[:] = [item for item in items if item not in set(apart)]
    places = {file: place for place, file in enumerate((*(file for files in LONG for file in files), *DRAWN))}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(places)))


def _applies(item: pytest.Item) -> bool:
    """Whether a test of engines is about the kind that it would be run with."""
    kinds, call = item.get_closest_marker("kinds"), getattr(item, "callspec", None)
    return kinds is None or call is None or call.params["bench"] in kinds.args


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keeps the tests that were skipped for no reason that CI knows: one that cannot run is no green one."""
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
    if report.skipped and not any(reason in why for reason in SKIPPED_IN_CI):
        _UNEXPECTED.append(f"{report.nodeid}: {why}")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if os.environ.get("CI") and _UNEXPECTED and "PYTEST_XDIST_WORKER" not in os.environ:
        print("\nskipped, and CI knows no reason for it:", *_UNEXPECTED, sep="\n  ")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_collection_finish() -> None:
    """Leaves what is there now out of all collections of garbage: it is a lot, and some tests collect."""
    gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    """For ``-n``: the tests of a file run in one process, in their order, but for those that are thorough."""
    from xdist.scheduler import LoadFileScheduling

    class Together(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return next((files[0] for files in LONG if file in files), nodeid if file in DRAWN else file)

    config.option.loadscopereorder = False
    return Together(config, log)


def embedded_expert(name: str) -> ExpertConfig:
    return ExpertConfig(family="smollm2-135m", checkpoint=CheckpointSource(embedded=EMBEDDED[name]))


_NUMBERS = itertools.count()
_UNEXPECTED: list[str] = []


def store_path() -> Path:
    return Path(os.environ.get("COE_STORE", Path(__file__).parents[1] / ".state" / "models"))


@pytest.fixture(scope="session")
def store() -> Path:
    """``COE_STORE``, or that of the checkout, with all embedded experts prepared as by ``coe``."""
    for name in EMBEDDED:
        prepare(name, embedded_expert(name), store_path())
    record_canaries(dict.fromkeys(EMBEDDED, silent), store_path())
    return store_path()


@pytest.fixture(scope="session")
def base_checkpoint() -> Path:
    """The folder of the embedded base, ``general``."""
    return prepare("general", embedded_expert("general"), store_path()).folder


@pytest.fixture(scope="session", autouse=True)
def minilm() -> Embedder:
    """Open from the first test to the last: each gateway of a test would open it again."""
    return embedder_named(MiniLmOnnx.name)


@pytest.fixture(scope="session")
def plain(nurseries: Nurseries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlainVllm]:
    """For tests marked ``engine``."""
    with plain_vllm(tmp_path_factory.mktemp("logs"), nurseries) as plain:
        yield plain


@pytest.fixture(scope="session")
def nurseries() -> Iterator[Nurseries]:
    """Engines that are given them start without importing vLLM again. That of ``test_engine_proof`` and the
    vectors of ``plain_vectors`` start by themselves, so both ways are tested."""
    with closing(Nurseries()) as nurseries:
        yield nurseries


@pytest.fixture
def small_memory(tmp_path: Path) -> Iterator[Path]:
    """A memory file system of 16 MiB. Mounting one is a privilege that not every machine gives its tests."""
    folder = tmp_path / "small-memory"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    done = subprocess.run(mounting, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"no memory file system can be mounted: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
