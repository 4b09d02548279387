"""``coe router train``, ``evaluate``, ``map``, ``frontier``, ``predict`` and ``add-category``, on files."""

import gzip
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from router.artifacts.artifact import Artifact
from router.data.dataset import Example, split
from router.router import Router
from server.cli.main import main
from tests.router.mapping.hidden_groups import SIZES, finer, hidden
from tests.router.training.test_training import contents, given, prompts, solved

Captured = pytest.CaptureFixture[str]
HASHED = ("--embedder", "minilm-static-384")
INLINE = "chat=1B,chef=7B,skipper=7B"


def line(example: Example) -> str:
    tree: dict[str, Any] = {"id": example.id, "prompt": example.prompt}
    if example.category is not None:
        tree["category"] = example.category
    return json.dumps(tree | ({"scores": dict(example.scores)} if example.scores else {}))


def written(file: Path, examples: Sequence[Example]) -> str:
    content = "".join(f"{line(example)}\n" for example in examples).encode()
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return str(file)


def coe(*words: object) -> int:
    return main(["router", *map(str, words)])


def failed(captured: Captured, *words: object) -> str:
    """What the verb says in its one line of complaint; lines before it tell how far it came."""
    assert coe(*words) == 1
    said = captured.readouterr()
    assert said.out == ""
    told = said.err.splitlines()
    assert [each.startswith("coe: ") for each in told] == [False] * (len(told) - 1) + [True]
    return told[-1].removeprefix("coe: ")


@pytest.fixture
def graded(tmp_path: Path) -> Path:
    """Folder of an artifact with scores and finer categories."""
    finer().artifact.write(tmp_path / "graded")
    return tmp_path / "graded"


@pytest.fixture
def ungraded(tmp_path: Path) -> Path:
    given().artifact.write(tmp_path / "ungraded")
    return tmp_path / "ungraded"


def test_experts_are_given_inline_or_in_a_file_and_make_the_same_artifact(
    tmp_path: Path, capsys: Captured
) -> None:
    data, sizes = written(tmp_path / "data.jsonl.gz", prompts()), tmp_path / "experts.yaml"
    sizes.write_text("chat: 1B\nchef: 7000M\nskipper: 7.0B\n")
    assert coe("train", "--data", data, "--experts", INLINE, *HASHED, "--out", tmp_path / "inline") == 0
    said = capsys.readouterr()
    assert "cross-validated: accuracy 1.000" in said.out
    assert "score table: <ScoreTable 6 categories x 3 experts, 540 grades>, 6 of them finer" in said.out
    stages = ["embedding", "classifying", "predicting scores"]
    assert [each for each in said.err.splitlines() if each.startswith("router: ")] == [
        f"router: {stage}" for stage in stages
    ]
    assert coe("train", "--data", data, "--experts", sizes, *HASHED, "--out", tmp_path / "file") == 0
    assert contents(tmp_path / "inline") == contents(tmp_path / "file")
    assert Artifact.read(tmp_path / "file").mapping.experts == solved().artifact.mapping.experts


def test_a_mapping_is_given_in_a_file(tmp_path: Path) -> None:
    data, mapping, cache = tmp_path / "data.jsonl", tmp_path / "map.yaml", tmp_path / "vectors.sqlite"
    written(data, prompts())
    mapping.write_text("general: chat\ncooking: chef\n")
    words = ("train", "--data", data, "--mapping", mapping, *HASHED, "--seed", "3", "--cache", cache)
    more = (
        "--classifier",
        "neighbours",
        "--unlabelled",
        written(tmp_path / "more.jsonl", [Example("u", "reef")]),
    )
    assert coe(*words, *more, "--description", "ours", "--out", tmp_path / "artifact") == 0
    artifact = Artifact.read(tmp_path / "artifact")
    assert artifact.mapping.experts == {"general": "chat", "cooking": "chef", "sailing": "chat"}
    assert (artifact.training.seed, artifact.training.description) == (3, "ours")
    assert cache.exists()


def test_what_is_kept_apart_in_training_is_what_is_measured(tmp_path: Path, capsys: Captured) -> None:
    data, out = written(tmp_path / "data.jsonl", prompts(100)), tmp_path / "artifact"
    apart = split(prompts(100)).held_out
    assert coe("train", "--data", data, "--experts", INLINE, *HASHED, "--keep-apart", "--out", out) == 0
    assert Artifact.read(out).training.prompts == 300 - len(apart)
    capsys.readouterr()
    report = tmp_path / "report.json"
    assert coe("evaluate", "--artifact", out, "--data", data, "--kept-apart", "--json", report) == 0
    assert f"labelled prompts        {len(apart)}\n" in capsys.readouterr().out
    found = json.loads(report.read_text())
    assert found["categories"]["prompts"] == found["worth"]["prompts"] == len(apart)
    assert found["categories"]["accuracy"]["value"] == 1.0


def test_evaluation_prints_every_baseline_and_draws_the_frontier(
    tmp_path: Path, graded: Path, capsys: Captured
) -> None:
    data, plot = written(tmp_path / "test.jsonl.gz", hidden(20, seed=9)), tmp_path / "frontier.png"
    assert coe("evaluate", "--artifact", graded, "--data", data, "--plot", plot) == 0
    said = capsys.readouterr().out
    for part in (
        "accuracy                1.000 [",
        "60 graded prompts (0 left out",
        "\nchat   ",
        "\nchef   ",
        "\nskipper   ",
        "\nblind mix at the same cost   ",
        "\ncomposition   ",
        "\nmap at the true categories   ",
        "\noracle, prompt by prompt   ",
        "\ncomposition over the blind mix   ",
        "\n... counting the embedder's 0.0117 B",
        "\ncomposition over the best single expert   ",
    ):
        assert part in said
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("budget", ["1B", "2B", "4500M", "7B"])
def test_a_map_for_a_budget_is_kept_by_the_expected_active_parameters(
    tmp_path: Path, graded: Path, capsys: Captured, budget: str
) -> None:
    assert coe("map", "--artifact", graded, "--active-params", budget, "--out", tmp_path / "mapped") == 0
    limit = float(budget[:-1]) / (1000 if budget.endswith("M") else 1)
    before, after = Artifact.read(graded), Artifact.read(tmp_path / "mapped")
    table = after.scores
    assert table is not None
    active = sum(share * SIZES[after.mapping[row]] for row, share in table.share_of().items())
    assert active <= limit * (1 + 1e-6)
    assert f"active parameters  {active:.2f} B on average\n" in capsys.readouterr().out
    assert after.classifier.labels == before.classifier.labels
    assert set(after.mapping.experts) == {*table.categories, *after.classifier.labels}


def test_a_total_budget_keeps_few_experts_and_a_margin_the_cheaper_ones(
    tmp_path: Path, graded: Path, capsys: Captured
) -> None:
    out = tmp_path / "mapped"
    assert coe("map", "--artifact", graded, "--total-params", "8B", "--out", out) == 0
    assert "total parameters   8.00 B: chat, " in capsys.readouterr().out
    assert len(Artifact.read(out).mapping.names()) == 2
    budget = ("--active-params", "5B")
    assert coe("map", "--artifact", graded, *budget, "--out", out) == 0
    assert len(Artifact.read(out).mapping.names()) > 1
    assert coe("map", "--artifact", graded, *budget, "--min-margin", "100", "--out", out) == 0
    assert Artifact.read(out).mapping.names() == ("chat",)
    assert coe("map", "--artifact", graded, "--out", out) == 0
    assert set(Artifact.read(out).mapping.names()) >= {"chef", "skipper"}


def test_an_artifact_may_be_mapped_in_place(graded: Path) -> None:
    assert coe("map", "--artifact", graded, "--active-params", "1B", "--out", graded) == 0
    assert Artifact.read(graded).mapping.names() == ("chat",)
    assert len(list(graded.glob("arrays-*"))) == 1


def test_a_frontier_goes_from_the_cheapest_map_to_the_best_one(
    tmp_path: Path, graded: Path, capsys: Captured
) -> None:
    data = written(tmp_path / "test.jsonl", hidden(20, seed=9))
    figures, plot = tmp_path / "frontier.json", tmp_path / "frontier.png"
    assert coe("frontier", "--artifact", graded, "--data", data, "--json", figures, "--plot", plot) == 0
    maps = json.loads(figures.read_text())["maps"]
    expected = [each["map"]["active"] for each in maps]
    assert expected[0] == pytest.approx(1.0)
    assert expected == sorted(expected)
    assert maps[-1]["worth"]["over_blind"]["low"] > 5
    for each in maps:
        assert each["worth"]["blind"]["active"] == each["worth"]["composition"]["active"]
        assert each["map"]["bound"] >= each["map"]["score"] - 1e-9
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(maps)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert (
        coe("frontier", "--artifact", graded, "--data", data, "--total-params", "8B", "--json", figures) == 0
    )
    assert all(each["map"]["total"] <= 8 for each in json.loads(figures.read_text())["maps"])


def test_a_frontier_over_what_is_kept_goes_from_one_expert_to_all_that_the_best_map_keeps(
    tmp_path: Path, graded: Path, capsys: Captured
) -> None:
    data, figures = written(tmp_path / "test.jsonl", hidden(20, seed=9)), tmp_path / "frontier.json"
    command = ("frontier", "--artifact", graded, "--data", data, "--json", figures, "--over", "total")
    assert coe(*command) == 0
    maps = [each["map"] for each in json.loads(figures.read_text())["maps"]]
    totals, scores = [each["total"] for each in maps], [each["score"] for each in maps]
    assert len({*maps[0]["experts"].values()}) == 1 < len({*maps[-1]["experts"].values()})
    assert totals == sorted({*totals})
    assert scores == sorted({*scores})
    assert coe(*command, "--active-params", "2B") == 0
    assert all(each["map"]["active"] <= 2.000001 for each in json.loads(figures.read_text())["maps"])
    capsys.readouterr()
    assert "goes through the budgets of --total-params itself" in failed(
        capsys, *command, "--total-params", "8B"
    )
    assert "--active-params itself" in failed(capsys, *command, "--over", "active", "--active-params", "2B")
    assert "--data has the graded prompts" in failed(capsys, "frontier", "--artifact", graded)


def test_predictions_are_the_decisions_line_by_line(tmp_path: Path, graded: Path, capsys: Captured) -> None:
    examples = [*hidden(5, seed=9), Example("blank", " ")]
    out = tmp_path / "decisions.jsonl.gz"
    data = written(tmp_path / "prompts.jsonl", examples)
    assert coe("predict", "--artifact", graded, "--data", data, "--out", out) == 0
    assert capsys.readouterr().out == f"wrote {out}: 16 decisions\n"
    lines = [json.loads(each) for each in gzip.decompress(out.read_bytes()).splitlines()]
    assert [each["id"] for each in lines] == [example.id for example in examples]
    router = Router.load(graded)
    for example, found in zip(examples, lines, strict=True):
        decision = router.decide(example.prompt)
        assert set(found) == {
            "id",
            "category",
            "cluster",
            "confidence",
            "probabilities",
            "uncertain",
            "expert",
        }
        assert found["category"] == max(found["probabilities"], key=found["probabilities"].get)
        assert found["category"] in router.categories
        assert found["probabilities"] == dict(decision.probabilities)
        assert (found["expert"], found["uncertain"]) == (decision.expert, decision.uncertain)
        assert found["cluster"] == (decision.cluster if "/" in decision.cluster else None)
    assert {each["cluster"] is None for each in lines if each["category"] == "chores"} == {False}
    assert lines[-1]["uncertain"]


CHESS = ["zugzwang fianchetto skewer", "castling gambit skewer", "endgame castling zugzwang"]


def test_a_category_is_added_from_a_handful_of_prompts(tmp_path: Path, graded: Path) -> None:
    data = written(tmp_path / "chess.jsonl", [Example(str(n), text) for n, text in enumerate(CHESS)])
    out, again = tmp_path / "with-chess", tmp_path / "remapped"
    words = ("--artifact", graded, "--name", "chess", "--data", data, "--expert", "chat")
    assert coe("add-category", *words, "--out", out) == 0
    decision = Router.load(out).decide(CHESS[0])
    assert (decision.category, decision.expert) == ("chess", "chat")
    assert coe("map", "--artifact", out, "--active-params", "1B", "--out", again) == 0
    assert Router.load(again).decide(CHESS[0]).category == "chess"


@cache
def broken_gzip() -> bytes:
    content = bytearray(gzip.compress("".join(f"{line(each)}\n" for each in prompts()).encode()))
    content[12:40] = bytes(28)
    return bytes(content)


@pytest.mark.parametrize("verb", ["train", "evaluate", "frontier", "predict", "add-category"])
@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (
            "bad.jsonl",
            b'{"id": "a", "prompt": "x"}\n\n{"id": "b"}\n',
            "bad.jsonl, line 3: prompt: Field required",
        ),
        ("bad.jsonl", b'{"id": "a", "prompt": "x"}\n{\n', "bad.jsonl, line 2: Invalid JSON"),
        (
            "bad.jsonl",
            b'{"id": "a", "prompt": "x", "scores": {"m": 7}}\n',
            "bad.jsonl, line 1: scores.m: Input should be",
        ),
        ("bad.jsonl.gz", b"not compressed", "bad.jsonl.gz cannot be read: "),
        ("bad.jsonl.gz", None, "bad.jsonl.gz cannot be read: "),
        ("empty.jsonl", b"\n", "empty.jsonl has no lines"),
        ("absent.jsonl", None, "absent.jsonl cannot be read: "),
    ],
    ids=["field", "json", "score", "no gzip", "damaged gzip", "empty", "absent"],
)
def test_data_that_cannot_be_read_is_one_line_and_nothing_is_written(
    tmp_path: Path,
    graded: Path,
    capsys: Captured,
    verb: str,
    name: str,
    content: bytes | None,
    complaint: str,
) -> None:
    data, out = tmp_path / name, tmp_path / "out"
    if content is not None or name.endswith(".gz"):
        data.write_bytes(broken_gzip() if content is None else content)
    words = {
        "train": ("--experts", INLINE, *HASHED, "--out", out),
        "evaluate": ("--artifact", graded, "--json", out),
        "frontier": ("--artifact", graded, "--json", out),
        "predict": ("--artifact", graded, "--out", out),
        "add-category": ("--artifact", graded, "--name", "chess", "--expert", "chat", "--out", out),
    }[verb]
    before = sorted(tmp_path.iterdir())
    assert complaint in failed(capsys, verb, "--data", data, *words)
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("--experts", "chat=1B,poet=2B"),
            "no prompt has a score of expert 'poet'; grade some, or leave it out",
        ),
        (("--experts", "poet=2B"), "no prompt has a score of poet; fill them in: coe router judge"),
        (
            ("--experts", "chat"),
            "--experts 'chat': write each once as NAME=SIZE, such as small=7.62B, or a file",
        ),
        (("--experts", "chat=7"), "--experts: '7' is not a number of parameters"),
        (("--experts", "chat=1B,chat=2B"), "--experts 'chat': write each once"),
        (("--experts", "FILE"), "expected lines of 'name: value'"),
        (("--mapping", "FILE"), "expected lines of 'name: value'"),
        (("--mapping", "absent.yaml"), "absent.yaml: [Errno 2] No such file or directory"),
        (("--experts", INLINE, "--unlabelled", "absent.jsonl"), "absent.jsonl cannot be read"),
        (("--experts", INLINE, "--cache", "FOLDER"), "cannot keep embeddings: unable to open database file"),
        (("--experts", INLINE, "--cache", "FILE"), "cannot keep embeddings: file is not a database"),
    ],
)
def test_a_wrong_option_of_training_is_one_line_and_nothing_is_written(
    tmp_path: Path, capsys: Captured, words: Sequence[str], complaint: str
) -> None:
    (tmp_path / "list.yaml").write_text("- chat\n- chef\n" * 100)
    places = {"FILE": str(tmp_path / "list.yaml"), "FOLDER": str(tmp_path)}
    options = [places.get(word, word) for word in words]
    data, out = written(tmp_path / "data.jsonl", prompts(10)), tmp_path / "out"
    assert complaint in failed(capsys, "train", "--data", data, *HASHED, *options, "--out", out)
    assert not out.exists()


def test_a_mapping_must_name_general_and_only_categories_of_the_data(
    tmp_path: Path, capsys: Captured
) -> None:
    data, mapping, out = (
        written(tmp_path / "data.jsonl", prompts(10)),
        tmp_path / "map.yaml",
        tmp_path / "out",
    )
    for text, complaint in (
        ("cooking: chef\n", "the mapping names no expert for 'general'"),
        ("general: chat\ncookin: chef\n", "did you mean 'cooking'?"),
    ):
        mapping.write_text(text)
        words = ("--data", data, "--mapping", mapping, *HASHED, "--out", out)
        assert complaint in failed(capsys, "train", *words)
        assert not out.exists()


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--active-params", "0.5B"), "the smallest feasible one is 1 B (chat)"),
        (("--total-params", "0.5B"), "no expert fits a budget of 0.5 B total parameters"),
        (("--active-params", "31"), "--active-params: '31' is not a number of parameters"),
        (("--total-params", "many"), "--total-params: 'many' is not a number of parameters"),
        (("--min-margin", "-1"), "the margin must be from 0 points, not -1"),
        (("--min-margin", "nan"), "the margin must be from 0 points, not nan"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_one_line_and_nothing_is_written(
    tmp_path: Path, graded: Path, capsys: Captured, words: Sequence[str], complaint: str
) -> None:
    out = tmp_path / "out"
    assert complaint in failed(capsys, "map", "--artifact", graded, *words, "--out", out)
    assert not out.exists()


def test_an_artifact_without_scores_has_no_other_maps(
    tmp_path: Path, ungraded: Path, capsys: Captured
) -> None:
    data, out = written(tmp_path / "data.jsonl", prompts(5)), tmp_path / "out"
    complaint = "ungraded has no scores to solve a map from; train it on graded prompts with --experts"
    assert complaint in failed(capsys, "map", "--artifact", ungraded, "--active-params", "7B", "--out", out)
    assert complaint in failed(capsys, "frontier", "--artifact", ungraded, "--data", data, "--json", out)
    assert not out.exists()


def test_a_plot_without_anything_to_compare_is_one_line(
    tmp_path: Path, ungraded: Path, capsys: Captured
) -> None:
    data, plot = written(tmp_path / "data.jsonl", prompts(5)), tmp_path / "plot.png"
    assert coe("evaluate", "--artifact", ungraded, "--data", data, "--plot", plot) == 1
    assert "coe: --plot needs an artifact with scores and graded prompts\n" in capsys.readouterr().err
    assert not plot.exists()


def test_a_category_that_cannot_be_added_is_one_line(tmp_path: Path, graded: Path, capsys: Captured) -> None:
    data, out = written(tmp_path / "two.jsonl", [Example("a", "x"), Example("b", "y")]), tmp_path / "out"
    words = ("--artifact", graded, "--data", data, "--expert", "chat", "--out", out)
    assert "2 prompts say too little" in failed(capsys, "add-category", "--name", "chess", *words)
    assert "has a category 'chores' already" in failed(capsys, "add-category", "--name", "chores", *words)
    assert "has a category 'chores/0' already" in failed(capsys, "add-category", "--name", "chores/0", *words)
    complaint = "the router has no scores of an expert 'gambler'; it has: chat, chef, skipper"
    assert complaint in failed(capsys, "add-category", "--name", "chess", *words, "--expert", "gambler")
    assert not out.exists()


@pytest.mark.parametrize("verb", ["evaluate", "map", "frontier", "predict", "add-category"])
def test_a_folder_without_a_router_is_one_line(tmp_path: Path, capsys: Captured, verb: str) -> None:
    data, out = written(tmp_path / "data.jsonl", prompts(5)), tmp_path / "out"
    words = {
        "evaluate": ("--data", data, "--json", out),
        "map": ("--out", out),
        "frontier": ("--data", data, "--json", out),
        "predict": ("--data", data, "--out", out),
        "add-category": ("--data", data, "--name", "chess", "--expert", "chat", "--out", out),
    }[verb]
    assert "holds no router" in failed(capsys, verb, "--artifact", tmp_path / "nowhere", *words)
    assert not out.exists()


def test_where_nothing_can_be_written_is_one_line(tmp_path: Path, graded: Path, capsys: Captured) -> None:
    data, blocked = written(tmp_path / "data.jsonl", hidden(5, seed=9)), tmp_path / "file"
    blocked.write_text("mine")
    below = blocked / "below"
    for words in (("map", "--out", blocked), ("predict", "--data", data, "--out", below)):
        assert "cannot be written" in failed(capsys, words[0], "--artifact", graded, *words[1:])
    for option in ("--json", "--plot"):
        assert coe("frontier", "--artifact", graded, "--data", data, option, below) == 1
        assert str(below) in capsys.readouterr().err.splitlines()[-1]
    assert blocked.read_text() == "mine"


def test_what_cannot_be_written_is_said_before_the_work(tmp_path: Path, capsys: Captured) -> None:
    data, blocked = written(tmp_path / "data.jsonl", hidden(5, seed=9)), tmp_path / "file"
    blocked.write_text("mine")
    for words in (
        ("train", "--experts", INLINE, *HASHED),
        ("add-category", "--artifact", tmp_path / "absent", "--name", "chess", "--expert", "chat"),
    ):
        assert coe(words[0], "--data", data, *words[1:], "--out", blocked) == 1
        assert capsys.readouterr().err == f"coe: --out {blocked} cannot be written: {blocked} is a file\n"


def test_a_fixed_category_stays_in_the_artifact_and_in_the_maps_solved_from_it(
    tmp_path: Path, graded: Path, capsys: Captured
) -> None:
    out = tmp_path / "fixed"
    assert coe("map", "--artifact", graded, "--fix", "general=skipper", "--out", out) == 0
    artifact = Artifact.read(out)
    assert artifact.mapping["general"] == "skipper"
    assert artifact.fixed == {"general": "skipper"}
    assert coe("map", "--artifact", out, "--active-params", "6.9B", "--out", out) == 0
    assert Artifact.read(out).mapping["general"] == "skipper"
    capsys.readouterr()
    wrong = "--fix general: write each as CATEGORY=EXPERT"
    assert wrong in failed(capsys, "map", "--artifact", graded, "--fix", "general", "--out", out)


def test_prompts_graded_for_too_few_experts_are_one_line(
    tmp_path: Path, graded: Path, capsys: Captured
) -> None:
    data = written(tmp_path / "data.jsonl", [Example("a", "oven butter", None, {"chat": 1.0})])
    for verb in ("evaluate", "frontier"):
        told = failed(capsys, verb, "--artifact", graded, "--data", data)
        assert told == "no line has scores of all of chat, chef, skipper, so nothing can be compared"
