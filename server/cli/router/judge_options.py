"""The options of ``coe router judge``."""

import argparse
from pathlib import Path

from server.cli.arguments import Parent, add_verb


def add_to(router: Parent) -> None:
    help_text = "score prompts by comparing experts' answers with a judge"
    made = add_verb(router, "judge", judge, help_text, config=False)
    needed = made.add_argument_group("what is judged, and by whom")
    needed.add_argument("--data", type=Path, required=True, help="JSON lines with id, prompt (.gz too)")
    needed.add_argument("--experts", required=True, help="their names, comma-separated")
    needed.add_argument(
        "--answers-url",
        required=True,
        metavar="URL",
        help="endpoint that serves the experts by name, such as a gateway; COE_ANSWERS_KEY has its key",
    )
    needed.add_argument(
        "--judge-url", required=True, metavar="URL", help="the judge's endpoint; COE_JUDGE_KEY has its key"
    )
    needed.add_argument("--judge-model", required=True, metavar="NAME", help="the model that judges")
    needed.add_argument(
        "--out",
        type=Path,
        required=True,
        help="the prompts with scores (.gz too); replies are kept beside it",
    )
    made.add_argument(
        "--reference", metavar="EXPERT", help="compare each expert with this one; all pairs by default"
    )
    made.add_argument(
        "--per-category", type=int, metavar="N", help="prompts of each category; all by default"
    )
    made.add_argument("--answer-tokens", type=int, default=1024, metavar="N", help="at most, of an answer")
    made.add_argument("--verdict-tokens", type=int, default=512, metavar="N", help="at most, of a verdict")
    made.add_argument("--concurrency", type=int, default=8, metavar="N", help="calls at once")
    made.add_argument(
        "--requests-per-minute",
        type=float,
        metavar="N",
        help="at most, of each endpoint; no limit by default",
    )
    made.add_argument("--price-in", type=float, metavar="PRICE", help="of a million tokens the judge reads")
    made.add_argument("--price-out", type=float, metavar="PRICE", help="of a million tokens it writes")
    made.add_argument("--yes", action="store_true", help="start without asking")


def judge(options: argparse.Namespace) -> int:
    import server.cli.router.judge

    return server.cli.router.judge.judge_prompts(options)
