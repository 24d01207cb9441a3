"""Runs parliament over policies, within `.venv-scan`: JSON address → policy on stdin, address → findings on stdout.

Imports nothing of the project: that environment has only the scanners.
"""

from __future__ import annotations

import json
import sys
import warnings

warnings.filterwarnings("ignore")  # parliament imports pkg_resources, which warns of its removal

import parliament  # noqa: E402


def main() -> None:
    """Answer with every policy that was read, with an empty list where nothing was found."""
    answer: dict[str, list[dict[str, object]]] = {}
    for address, policy in json.load(sys.stdin).items():
        analysed = parliament.analyze_policy_string(policy, include_community_auditors=True)
        answer[address] = [
            {
                "issue": finding.issue,
                "title": parliament.config.get(finding.issue, {}).get("title", ""),  # community auditors have none
                "detail": finding.detail if isinstance(finding.detail, list) else [],
            }
            for finding in analysed.findings
        ]
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
