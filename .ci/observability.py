"""Runs every expression of dashboard and alerts on a Prometheus: observability.py PROMETHEUS METRICS"""
import json
import math
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

prometheus, metrics = sys.argv[1:]
DEADLINE = time.monotonic() + 120  # for the election to have gone through everything that the panels show


def fetch(url: str) -> str:
    return urllib.request.urlopen(url, timeout=10).read().decode()


def api(path: str, **arguments: str) -> dict:
    query = urllib.parse.urlencode(arguments)
    try:
        return json.loads(fetch(f"{prometheus}/api/v1/{path}?{query}"))["data"]
    except urllib.error.HTTPError as error:
        sys.exit(f"{path} {arguments}: {error.read().decode()}")  # a parse error, for one


def wait_for(url: str) -> str:
    while True:
        try:
            return fetch(url)
        except OSError as error:
            if time.monotonic() > DEADLINE:
                sys.exit(f"{url} does not answer: {error}")
            time.sleep(0.2)


def plain(expression: str) -> str:
    """As Grafana would fill it in, with everything chosen."""
    for variable, value in {"__rate_interval": "30s", "__interval": "30s", "job": ".*", "name": ".*"}.items():
        expression = re.sub(rf"\$(?:{variable}\b|{{{variable}}})", value, expression)
    if "$" in expression:
        sys.exit(f"which variable is that? {expression}")
    return expression


def outside_brackets(expression: str) -> str:
    """The same length, with what stands in brackets or quotes blanked."""
    shown, depth, quote = [], 0, ""
    for char in expression:
        if quote:
            quote = "" if char == quote else quote
            shown.append(" ")
            continue
        if char in "\"'":
            quote = char
        depth -= char in ")]}"
        shown.append(char if depth == 0 and not quote else " ")
        depth += char in "([{"
    return "".join(shown)


def operands(expression: str) -> list[str]:
    """The vectors that an alert compares with a number: these must be there even where nothing is wrong."""
    found, start = [], 0
    blanked = outside_brackets(expression)
    for end in [match.span() for match in re.finditer(r"\s(?:and|or|unless)\s", blanked)] + [(len(blanked),) * 2]:
        part, shown = expression[start : end[0]], blanked[start : end[0]]
        compared = re.search(r"\s(?:<=|>=|==|!=|<|>)\s*-?[\d.e]+\s*$", shown)
        part = part[: compared.start()] if compared else part
        absent = re.fullmatch(r"\s*absent\((.*)\)\s*", part, re.DOTALL)
        found.append((absent.group(1) if absent else part).strip())
        start = end[1]
    return found


def panels(dashboard: dict):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f"panel {panel['title']!r}", target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield f"annotation {annotation['name']!r}", operands(annotation["expr"])[0]


wait_for(f"{prometheus}/-/ready")
wait_for(metrics)

with open("observability/dashboard.json", encoding="utf-8") as file:
    dashboard = json.load(file)
asked = [(where, plain(expression)) for where, expression in panels(dashboard)]
rules = [rule for group in api("rules")["groups"] for rule in group["rules"]]
with open("observability/alerts.yml", encoding="utf-8") as file:
    written = len(re.findall(r"^\s*- alert:", file.read(), re.MULTILINE))
if len(rules) != written or written == 0:
    sys.exit(f"{written} alerts are written, and Prometheus has {len(rules)}")
for rule in rules:
    asked += [(f"alert {rule['name']}", operand) for operand in operands(rule["query"])]

# Each must give a series with a number in it: a quantile of nothing is a series too, of NaN.
missing = asked
while missing and time.monotonic() < DEADLINE:
    time.sleep(1)
    missing = [
        (where, expression)
        for where, expression in missing
        if not any(math.isfinite(float(series["value"][1])) for series in api("query", query=expression)["result"])
    ]
if missing:
    sys.exit("no series, or no number in any:\n" + "\n".join(f"  {where}: {expression}" for where, expression in missing))

for variable in dashboard["templating"]["list"]:
    if variable["type"] == "query":
        series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
        if not api(f"label/{label}/values", **{"match[]": plain(series)}):
            sys.exit(f"no value for the variable {variable['name']}")
broken = [f"{rule['name']}: {rule['lastError']}" for rule in api("rules")["groups"][0]["rules"] if rule["health"] == "err"]
if broken:
    sys.exit("\n".join(broken))

# The one gauge that is called a total is so on purpose: see docs/observability.md.
lint = subprocess.run(["promtool", "check", "metrics"], input=fetch(metrics), capture_output=True, text=True)
complaints = [line for line in lint.stderr.splitlines() if line and not line.startswith("leader_election_capacity_units_total ")]
if complaints:
    sys.exit("promtool check metrics:\n" + "\n".join(complaints))
print(f"{len(asked)} expressions of {len(rules)} alerts and {sum('targets' in panel for panel in dashboard['panels'])} panels gave numbers")
