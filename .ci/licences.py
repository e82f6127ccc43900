"""Holds the licence of every dependency against the list in deny.toml."""
import json
import re
import subprocess
import sys
import tomllib

with open("deny.toml", "rb") as file:
    allowed = set(tomllib.load(file)["licenses"]["allow"])
metadata = json.loads(subprocess.check_output(["cargo", "metadata", "--format-version", "1", "--all-features"]))


def fits(expression: str) -> bool:
    """An SPDX expression: one of the alternatives must be allowed whole."""
    expression = expression.replace("/", " OR ").replace("(", " ").replace(")", " ")
    return any(
        all(part.strip() in allowed for part in re.split(r"\s+AND\s+", choice))
        for choice in re.split(r"\s+OR\s+", expression)
    )


bad = [
    f"{package['name']} {package['version']}: {package['license']}"
    for package in metadata["packages"]
    if not fits(package["license"] or "none")
]
print("\n".join(bad) or f"{len(metadata['packages'])} packages, all with an allowed licence")
sys.exit(bool(bad))
