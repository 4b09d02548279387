"""A composition under a budget: ``coe:31B``."""

import asyncio
import contextlib
import threading
from dataclasses import replace
from pathlib import Path
from typing import cast

import httpx
import pytest

from router.artifacts.artifact import Artifact
from router.composition import Composition
from router.embedders.registry import embedder_named
from router.embedders.static import StaticMiniLm
from router.errors import MappingError
from router.mapping.budget_solver import Solver
from router.router import Router
from router.settings import CompositionConfig
from router.training.train import train
from server.config.settings import Settings, SettingsError
from server.errors import BadRequest, TooManyRequests
from server.routing.catalog import compositions_of, load_routers
from server.routing.compositions import KEPT, Compositions, Named
from server.routing.routing import Routing
from server.routing.solving_queue import MOST_WAITING
from server.routing.thread_pools import Workers
from tests.router.mapping.score_tables import table
from tests.router.training.test_training import prompts
from tests.server.access.test_keys import MINE, code, keyed, rows
from tests.server.conftest import Gateway, Serving, changed, chat
from tests.server.routing.test_eligibility import refused
from tests.server.routing.test_requests import EMBEDDED, MATHS, explained, headers, talk


def give_scores(gateway: Gateway) -> None:
    """To the artifact of ``coe``: general has 1 B parameters, math 11 B, law 21 B."""
    services, artifact = gateway.services, Artifact.read(EMBEDDED)
    scores = table(artifact.classifier.labels)
    router = Router(replace(artifact, scores=scores, quick=None), embedder_named("minilm-l6-int8"))
    composition = Composition(router, solver=Solver(scores, services.experts))
    routing = Routing(
        {"coe": composition},
        services.experts,
        {"small": 200_000},
        services.metrics.decided,
        services.workers,
    )
    services.catalog = replace(services.catalog, routing=routing)


async def test_a_budget_in_the_models_name_solves_its_map(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        give_scores(gateway)
        for model, by, expert in (
            ("coe:1B", "budget", "general"),
            ("coe:2B", "budget", "math"),
            ("coe:1000M", "budget", "general"),
            ("coe", "map", "math"),
        ):
            routed = await headers(gateway, MATHS, model=model)
            assert (routed["x-coe-routed-by"], routed["x-coe-expert"]) == (by, expert)
        text = (await gateway.http.get("/metrics")).text
        assert 'coe_route_decisions_total{by="budget",category="math",composition="coe",expert="math"' in text
        assert "coe:" not in text


async def test_a_budget_that_no_map_fits_or_that_is_none_is_refused(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        error = await refused(gateway, model="coe:100M", messages=talk(MATHS))
        assert error["message"].startswith("coe:100M: no expert fits a budget of 0.1 B active parameters")
        assert error["param"] == "model"
        give_scores(gateway)
        error = await refused(gateway, model="coe:0.5B", messages=talk(MATHS))
        assert "no expert fits a budget of 0.5 B active parameters; the smallest feasible" in error["message"]
        for model in ("coe:", "coe:31", "coe:0B", "coe:31B:31B", ":31B", "law:31B", "ceo:31B"):
            answer = await gateway.post(model=model, messages=talk(MATHS))
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_model_is_retrieved_by_its_budget(serving: Serving, settings: Settings) -> None:
    async with serving(settings) as gateway:
        give_scores(gateway)
        found = (await gateway.http.get("/v1/models/coe:2B")).json()
        assert (found["id"], found["coe"]["kind"]) == ("coe:2B", "composition")
        assert (await gateway.http.get("/v1/models/coe:0.5B")).status_code == 400
        assert (await gateway.http.get("/v1/models/law:2B")).status_code == 404


class Held:
    """A composition whose maps are solved once it may go on."""

    def __init__(self) -> None:
        self.solved: list[float] = []
        self.go_on = threading.Event()

    def under(self, budget: float) -> object:
        assert self.go_on.wait(30)
        self.solved.append(budget)
        return budget


async def test_a_map_is_solved_once_however_many_ask_and_stays_until_others_need_its_place() -> None:
    counting = Held()
    with contextlib.closing(Workers()) as workers:
        compositions = Compositions({"coe": cast(Composition, counting)}, workers)
        waiting = [asyncio.create_task(compositions.named("coe:31B")) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        counting.go_on.set()
        await asyncio.wait(waiting)
        assert waiting[0].cancelled()
        assert [task.result() for task in waiting[1:]] == [Named("coe", cast(Composition, 31.0))] * 4
        assert counting.solved == [31.0]
        for budget in range(1, KEPT):
            await compositions.named(f"coe:{budget}M")
            await compositions.named("coe:31000M")
        assert counting.solved.count(31.0) == 1
        await compositions.named("coe:0.5B")
        assert len(counting.solved) == KEPT + 1
        await compositions.named("coe:1M")
        assert counting.solved.count(0.001) == 2


async def test_a_composition_that_a_reload_removes_while_its_map_is_solved_is_no_model(
    serving: Serving, settings: Settings
) -> None:
    class Begun(Held):
        def __init__(self) -> None:
            super().__init__()
            self.begun = threading.Event()

        def under(self, budget: float) -> object:
            self.begun.set()
            return super().under(budget)

    async with serving(settings) as gateway:
        services, held = gateway.services, Begun()
        routing = Routing(
            {"coe": cast(Composition, held)},
            services.experts,
            {"small": 200_000},
            services.metrics.decided,
            services.workers,
        )
        services.catalog = replace(services.catalog, routing=routing)
        asked = asyncio.create_task(gateway.http.get("/v1/models/coe:2B"))
        assert await asyncio.to_thread(held.begun.wait, 30)
        without = services.settings.model_copy(update={"compositions": {}})
        services.catalog = replace(services.catalog, settings=without)
        held.go_on.set()
        answer = await asked
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


async def test_a_key_that_asks_for_many_budgets_waits_for_its_own() -> None:
    held = Held()
    with contextlib.closing(Workers()) as workers:
        compositions = Compositions({"coe": cast(Composition, held)}, workers)

        def asks(asker: str, budget: int) -> asyncio.Task[Named | None]:
            return asyncio.create_task(compositions.named(f"coe:{budget}B", asker))

        many = [asks("greedy", budget) for budget in range(100, 200)]
        await asyncio.sleep(0)
        others = [asks("modest", 1), asks("other", 2)]
        await asyncio.sleep(0)
        held.go_on.set()
        await asyncio.wait([*many, *others])
        assert held.solved[:4] == [100, 101, 1, 2], "each key has its turn"
        assert sorted(held.solved) == [1, 2, *range(100, 101 + MOST_WAITING)]
        refused = [task for task in many if task.exception() is not None]
        assert len(refused) == 100 - 1 - MOST_WAITING
        assert {type(task.exception()) for task in refused} == {TooManyRequests}
        assert await asks("greedy", 150) == Named("coe", cast(Composition, 150.0))


async def test_the_key_with_the_most_maps_loses_one_when_there_is_no_room() -> None:
    held = Held()
    held.go_on.set()
    with contextlib.closing(Workers()) as workers:
        compositions = Compositions({"coe": cast(Composition, held)}, workers)
        await compositions.named("coe:1B", "modest")
        for budget in range(100, 100 + 2 * KEPT):
            await compositions.named(f"coe:{budget}B", "greedy")
        await compositions.named("coe:1B", "modest")
        assert held.solved.count(1) == 1


async def test_an_error_of_a_map_reaches_who_asked_and_the_next_is_solved() -> None:
    class Failing(Held):
        def under(self, budget: float) -> object:
            if budget < 1:
                raise MappingError("no expert fits")
            return super().under(budget)

    failing = Failing()
    failing.go_on.set()
    with contextlib.closing(Workers()) as workers:
        compositions = Compositions({"coe": cast(Composition, failing)}, workers)
        with pytest.raises(BadRequest, match="no expert fits"):
            await compositions.named("coe:500M", "a")
        assert await compositions.named("coe:1B", "a") == Named("coe", cast(Composition, 1.0))


async def test_routes_that_are_explained_and_maps_that_are_solved_count_for_a_key(
    serving: Serving, settings: Settings
) -> None:
    async with serving(keyed(settings, requests_per_minute=3)) as gateway:
        give_scores(gateway)

        async def explain() -> httpx.Response:
            asked = chat(model="coe", messages=talk(MATHS))
            return await gateway.http.post("/v1/coe/route", json=asked, headers=MINE)

        async def retrieve(name: str) -> httpx.Response:
            return await gateway.http.get(f"/v1/models/{name}", headers=MINE)

        assert (await retrieve("coe")).status_code == 200, "counts for nothing"
        answers = [await explain(), await retrieve("coe:2B"), await retrieve("coe:0.5B")]
        assert [answer.status_code for answer in answers] == [200, 200, 400]
        for refused in (await explain(), await retrieve("coe:2B"), await retrieve("coe:3B")):
            assert code(refused) == (429, "requests", "rate_limit_exceeded")
            assert int(refused.headers["retry-after"]) > 0
        assert (await retrieve("coe")).status_code == 200
        (row,) = await rows(gateway, MINE)
        assert (row["expert"], row["requests"], row["errors"]) == ("-", 6, 4)


async def test_a_route_has_the_bounds_of_a_chat(serving: Serving, settings: Settings) -> None:
    limits = settings.server.limits.model_copy(update={"messages": 2})
    async with serving(changed(settings, limits=limits)) as gateway:
        answer = await gateway.http.post("/v1/coe/route", json=chat(messages=[*talk(MATHS)] * 3))
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "messages")


async def test_an_explanation_has_the_scores_that_the_map_was_solved_from(
    serving: Serving, settings: Settings
) -> None:
    async with serving(settings) as gateway:
        decided = (await explained(gateway, MATHS))["decided"]
        assert (len(decided["row"]), decided["fixed"]) == (5, False)
        assert (await explained(gateway, "hello there"))["decided"]["fixed"]
        give_scores(gateway)
        said = await explained(gateway, MATHS, model="coe:1B")
        assert (said["expert"], said["routed_by"]) == ("general", "budget")
        best, *others = said["decided"]["row"]
        assert best == {
            "expert": "math",
            "score": 0.9,
            "standard_error": 0.01,
            "parameters_billion": 11.0,
            "prompts": 100,
        }
        assert [each["expert"] for each in others] == ["general", "law"]


def graded_artifact(folder: Path) -> Path:
    """Solved from scores: general has 1 B parameters, math 11 B, law 21 B."""
    experts = dict(zip(("general", "math", "law"), (1.0, 11.0, 21.0), strict=True))
    topics = {"chat": "general", "chef": "math", "skipper": "law"}
    data = [
        replace(example, scores={topics[name]: grade for name, grade in example.scores.items()})
        for example in prompts()
    ]
    train(data, folder, experts=experts, embedder=StaticMiniLm())
    return folder


def budgeted(artifact: Path, active: str) -> CompositionConfig:
    return CompositionConfig.model_validate({"artifact": artifact, "active_params": active})


COOKING, SAILING = "butter flour dough sugar whisk oven", "anchor keel reef jib rudder mast"


async def test_a_budget_of_the_configuration_is_solved_when_it_starts(
    serving: Serving, settings: Settings, tmp_path: Path
) -> None:
    """At most 5 B on average: a third of the prompts may go to math, and none to law as well."""
    composition = budgeted(graded_artifact(tmp_path / "artifact"), "5B")
    async with serving(settings.model_copy(update={"compositions": {"coe": composition}})) as gateway:
        for prompt, model, by, expert in (
            (COOKING, "coe", "map", "math"),
            (SAILING, "coe", "map", "general"),
            (SAILING, "coe:31B", "budget", "law"),
            (COOKING, "coe:1B", "budget", "general"),
        ):
            routed = await headers(gateway, prompt, model=model)
            assert (routed["x-coe-routed-by"], routed["x-coe-expert"]) == (by, expert)
        row = (await explained(gateway, COOKING))["decided"]["row"]
        assert [each["expert"] for each in row] == ["math", "general", "law"]
        assert row[0]["score"] == pytest.approx(0.85, abs=0.15)


def test_a_map_of_the_configuration_is_within_its_budget(settings: Settings, tmp_path: Path) -> None:
    folder = graded_artifact(tmp_path / "artifact")
    table = Artifact.read(folder).scores
    assert table is not None
    sizes = dict(zip(table.experts, table.parameters, strict=True))
    for budget in (1.0, 5.0, 9.0, 21.0):
        composition = budgeted(folder, f"{budget}B")
        routers = load_routers(settings.model_copy(update={"compositions": {"coe": composition}}))
        mapping = routers["coe"].artifact.mapping
        expected = sum(share * sizes[mapping[row]] for row, share in table.share_of().items())
        assert expected <= budget * (1 + 1e-6)


def test_a_budget_of_the_configuration_that_no_map_fits_is_an_error(
    settings: Settings, tmp_path: Path
) -> None:
    composition = budgeted(graded_artifact(tmp_path / "artifact"), "0.5B")
    with pytest.raises(SettingsError, match=r"^compositions\.coe: no expert fits a budget of 0\.5 B"):
        load_routers(settings.model_copy(update={"compositions": {"coe": composition}}))


def test_a_budget_of_the_configuration_needs_scores(settings: Settings, tmp_path: Path) -> None:
    replace(Artifact.read(EMBEDDED), scores=None).write(tmp_path / "without")
    changes = {"artifact": tmp_path / "without", "active_params": 31.0}
    composition = settings.compositions["coe"].model_copy(update=changes)
    with pytest.raises(SettingsError, match=r"^compositions\.coe: the router's artifact has no scores"):
        load_routers(settings.model_copy(update={"compositions": {"coe": composition}}))


def test_a_budget_leaves_the_expert_of_a_category_that_the_configuration_names(
    settings: Settings, tmp_path: Path
) -> None:
    free = budgeted(graded_artifact(tmp_path / "artifact"), "9B")
    pinned = free.model_copy(update={"mapping": {"general": "law"}})
    experts = []
    for composition in (free, pinned):
        coe = compositions_of(settings.model_copy(update={"compositions": {"coe": composition}}))["coe"]
        maps = (each.router.artifact.mapping for each in (coe, coe.under(15.0)))
        experts.append(tuple(mapping["general"] for mapping in maps))
    assert experts == [("general", "general"), ("law", "law")]


def test_an_artifact_trained_on_names_of_a_hub_is_served_under_those_of_the_configuration(
    settings: Settings, tmp_path: Path
) -> None:
    names = {"org/Small-Instruct": "general", "org/Maths-7B": "math", "org/Law-7B": "law"}
    trained = {here: there for there, here in names.items()}
    folder = graded_artifact(tmp_path / "artifact")
    Artifact.read(folder).renamed(trained).write(folder)
    composition = CompositionConfig.model_validate({"artifact": folder})
    with pytest.raises(SettingsError, match=r"chooses org/Law-7B.*in compositions\.coe\.experts"):
        load_routers(settings.model_copy(update={"compositions": {"coe": composition}}))
    for update, experts in (({}, {"general", "math", "law"}), ({"active_params": 1.0}, {"general"})):
        named = composition.model_copy(update={"experts": names, **update})
        routers = load_routers(settings.model_copy(update={"compositions": {"coe": named}}))
        assert set(routers["coe"].experts) == experts
    wrong = composition.model_copy(update={"experts": {"org/Smal": "general"}})
    with pytest.raises(SettingsError, match=r"^compositions\.coe: the router has no expert 'org/Smal'"):
        load_routers(settings.model_copy(update={"compositions": {"coe": wrong}}))
