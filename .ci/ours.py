"""What of the instructions that gungraun counted is not the SDK's, held against limits.

usage: … --output-format=json | ours.py CALLS BENCHMARK=LIMIT…

Each benchmark makes so many calls. NAME is compared with NAME_by_the_sdk_alone, which sends the same requests. Limits are of one call.
"""

import json
import sys

CALLS = int(sys.argv[1])
ALONE = "_by_the_sdk_alone"

counted = {}
for line in sys.stdin:
    summary = json.loads(line)
    total = summary["profiles"][0]["data"]["total"]["metrics"]["Ir"]["values"]
    counted[summary["function_name"]] = total["new"] / CALLS
failed = False
for name, limit in (asked.split("=") for asked in sys.argv[2:]):
    if not counted.keys() >= {name, name + ALONE}:
        sys.exit(f"{name} was not counted, or not the same by the SDK alone: {sorted(counted)}")
    whole, sdk = counted.pop(name), counted.pop(name + ALONE)
    ours = whole - sdk
    print(f"{name}: {whole:,.0f} instructions each, the same by the SDK alone {sdk:,.0f}: {ours:,.0f} are ours, {int(limit):,} at most")
    # Less than nothing would be two that are not the same.
    failed |= not 0 < ours <= int(limit)
for name, each in counted.items():
    print(f"{name}: {each:,.0f} instructions each")
    # It was not counted.
    failed |= each == 0
sys.exit(failed)
