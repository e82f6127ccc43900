"""Holds the licence of every dependency of the manifests given against the list in deny.toml."""
import json
import re
import subprocess
import sys
import tomllib

with open("deny.toml", "rb") as file:
    allowed = set(tomllib.load(file)["licenses"]["allow"])
METADATA = ["cargo", "metadata", "--format-version", "1", "--all-features", "--locked", "--manifest-path"]
packages = [
    package
    for manifest in sys.argv[1:] or ["Cargo.toml"]
    for package in json.loads(subprocess.check_output([*METADATA, manifest]))["packages"]
]


def fits(expression: str) -> bool:
    """An SPDX expression, whose operators are all upper or all lower case: one of the alternatives must be allowed whole."""
    expression = expression.replace("/", " OR ").replace("(", " ").replace(")", " ")
    return any(
        all(part.strip() in allowed for part in re.split(r"\s+(?:AND|and)\s+", choice))
        for choice in re.split(r"\s+(?:OR|or)\s+", expression)
    )


bad = [
    f"{package['name']} {package['version']}: {package['license']}"
    for package in packages
    if not fits(package["license"] or "none")
]
print("\n".join(bad) or f"{len(packages)} packages, all with an allowed licence")
sys.exit(bool(bad))
