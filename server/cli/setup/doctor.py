"""`coe doctor`: what is wrong with this machine or a configuration, and what to do."""

import argparse
import json
from dataclasses import asdict

from server.cli.arguments import Parent, add_verb
from server.doctor.examination import examination
from server.doctor.finding import Finding


def add_to(parent: Parent) -> None:
    made = add_verb(parent, "doctor", doctor, "examine this machine and a configuration, and say what to do")
    made.add_argument("--json", action="store_true", help="print the findings as JSON")


def doctor(options: argparse.Namespace) -> int:
    """Prints the findings; returns 1 where one is an error."""
    found = []
    for finding in examination(options.config):
        found.append(finding)
        if not options.json:
            print(_line(finding), flush=True)
    if options.json:
        print(json.dumps([asdict(finding) for finding in found], indent=2))
    return 1 if any(finding.level == "error" for finding in found) else 0


def _line(finding: Finding) -> str:
    do = f": {finding.do}" if finding.do else ""
    return f"{finding.level:<8} {finding.part:<14} {finding.said}{do}"
