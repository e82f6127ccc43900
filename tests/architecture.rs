//! Which module may use which, and what may appear where: rules that a compiler does not check.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

#[path = "architecture/capacity.rs"]
mod capacity;
#[path = "architecture/observability.rs"]
mod observability;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dynamo_elector::Timing;

/// All files below a folder of the package.
fn files(folder: &str) -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found);
    found
}

/// All sources below `src`, without their unit tests and fuzz targets.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
        (path.strip_prefix(&root).unwrap().display().to_string(), code)
    };
    let is_test = |path: &PathBuf| path.iter().any(|part| part == "fuzz" || part == "fuzz.rs");
    files("src").into_iter().filter(|path| !is_test(path)).map(read).collect()
}

/// The room that a file belongs to: `lock/hold.rs` and `lock.rs` to `lock`.
fn room(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap_or(file)
}

/// From the bottom up: a room may use rooms to its left only.
const MAY_USE: [(&str, &[&str]); 12] = [
    ("timing", &[]),
    ("error", &[]),
    ("protocol", &[]),
    ("cost", &["protocol", "timing"]),
    ("ending", &["protocol"]),
    ("clock", &["protocol"]),
    ("store", &["protocol", "error", "timing"]),
    ("telemetry", &["error", "ending", "store"]),
    ("lock", &["store", "protocol", "timing", "clock", "ending", "error", "telemetry", "embedded"]),
    ("status", &["lock", "ending", "protocol", "clock", "error"]),
    ("elector", &["lock", "store", "protocol", "clock", "ending", "error", "status", "telemetry"]),
    ("testing", &["elector", "lock", "store", "timing", "error", "embedded"]),
];

#[test]
fn rooms_use_only_what_they_may() {
    let rooms: Vec<&str> = MAY_USE.iter().map(|(room, _)| *room).chain(["embedded"]).collect();
    let mut uses = 0;
    for (file, code) in sources() {
        let own = room(&file);
        if own == "lib" {
            continue;
        }
        let allowed = MAY_USE.iter().find(|(room, _)| *room == own).map_or(&["error", "clock"][..], |(_, uses)| uses);
        for line in code.lines().filter(|line| !line.trim_start().starts_with("//")) {
            for used in line.split("crate::").skip(1) {
                let used = used.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
                if rooms.contains(&used) && used != own {
                    uses += 1;
                    assert!(allowed.contains(&used), "{file} uses {used}: {line}");
                }
            }
        }
    }
    assert!(uses > 50, "the check sees {uses} uses: is it blind?");
}

/// The core is pure: no clock, no randomness, no async, no network, no logging, no I/O.
#[test]
fn the_protocol_is_pure() {
    let mut files = 0;
    for (file, code) in sources().into_iter().filter(|(file, _)| room(file) == "protocol") {
        files += 1;
        for word in [
            "tokio",
            "async ",
            "aws_",
            "Instant",
            "SystemTime",
            "getrandom",
            "tracing",
            "metrics::",
            "std::io",
            "std::net",
        ] {
            let used = code.lines().find(|line| !line.trim_start().starts_with("//") && line.contains(word));
            assert!(used.is_none(), "{file}: {used:?}");
        }
    }
    assert!(files >= 5, "{files} files");
}

/// R6: a token is SET, never ADDed. R10: recorders and subscribers are user code, so only the herald
/// (and builders and `run`, which live on the user's own runtime) may touch them.
#[test]
fn what_is_forbidden_where() {
    for (file, code) in sources() {
        let says = |word: &str| code.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
        assert!(!says("\"ADD "), "{file} counts with ADD");
        let may = ["lock/builder.rs", "lock/keeper.rs"];
        if room(&file) != "telemetry" && !may.contains(&file.as_str()) {
            assert!(!says("tracing::"), "{file} traces on the keeper");
            assert!(!says("metrics::"), "{file} records metrics on the keeper");
        }
        if file != "clock.rs" {
            assert!(!says("SystemTime") && !says("std::time::Instant"), "{file} reads a clock of its own");
        }
    }
    // R9: on Linux only this one counts suspended time. Nothing but a suspend would show the difference.
    let clock = &sources().into_iter().find(|(file, _)| file == "clock.rs").unwrap().1;
    assert!(clock.contains("clock_gettime(rustix::time::ClockId::Boottime)"), "the clock is not CLOCK_BOOTTIME");
    let keeper = &sources().into_iter().find(|(file, _)| file == "lock/keeper.rs").unwrap().1;
    let used: Vec<&str> = keeper.lines().filter(|line| line.contains("tracing::")).collect();
    assert!(used.iter().all(|line| line.contains("NoSubscriber")), "{used:?}");
}

/// All functions that a test may be, each with the file it stands in.
fn tests() -> Vec<(String, String)> {
    let sources = ["tests", "src", "sim/src"].into_iter().flat_map(files);
    let mut found = Vec::new();
    for file in sources.filter(|file| file.extension().is_some_and(|end| end == "rs")) {
        let text = fs::read_to_string(&file).unwrap();
        let names = text.lines().filter_map(|line| line.split_once("fn ").map(|(_, rest)| rest));
        found.extend(names.map(|rest| {
            let name = rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next().unwrap_or_default();
            (file.display().to_string(), name.to_owned())
        }));
    }
    found
}

/// The rows of a table in a document: cells without the outer bars.
fn rows(document: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(document);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let is_row = |line: &&str| line.starts_with('|') && !line.contains("| ---");
    let cells = |line: &str| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect();
    text.lines().filter(is_row).map(cells).collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Each row of these tables ends with the tests that hold it, and they exist.
#[test]
fn the_tables_of_the_docs_name_tests_that_exist() {
    let tests = tests();
    for (document, least) in [("parity.md", 25), ("upstream-defects.md", 27)] {
        let rows = rows(document);
        assert!(rows.len() > least, "{document} has {} rows", rows.len());
        for row in &rows[1..] {
            let named = quoted(row.last().unwrap());
            assert!(!named.is_empty(), "{document}: no test in {row:?}");
            for test in named {
                let mut path = test.rsplit("::");
                let (name, module) = (path.next().unwrap(), path.next().unwrap_or_default());
                let stands_in = |file: &str| match module {
                    "" => file.ends_with("/main.rs"),
                    module => file.contains(&format!("/{module}.rs")) || file.contains(&format!("/{module}/")),
                };
                let exists = tests.iter().any(|(file, function)| function == name && stands_in(file));
                assert!(exists, "{document} names {test}, which does not exist");
            }
        }
    }
}

/// Whole suites that have no one test for a row.
const SUITES: [&str; 2] = ["sim: simulator", "real_time: chaos"];

/// A test that a document names as `where: module::name` exists in that very module, and runs.
fn must_exist(document: &str, test: &str, tests: &[(String, String)]) {
    let root = env!("CARGO_MANIFEST_DIR");
    let (place, path) = test.split_once(": ").unwrap_or_else(|| panic!("{document}: where is {test}?"));
    let folder = match place {
        "behaviour" | "real_time" => format!("{root}/tests/{place}"),
        "sim" => format!("{root}/sim/src"),
        other => panic!("{document}: what is {other} in {test}?"),
    };
    let (module, name) = path.rsplit_once("::").unwrap_or(("main", path));
    let module = format!("{folder}/{}", module.replace("::", "/"));
    let files = [format!("{module}.rs"), format!("{module}/mod.rs")];
    let exists = tests.iter().any(|(file, function)| function == name && files.contains(file));
    assert!(exists && is_test(&files, name), "{document} names {test}, which is no test");
}

/// Each row of the fault matrix ends with its tests, and each claim of the threat model that has one names it.
#[test]
fn the_fault_matrix_and_the_threat_model_name_tests_that_exist() {
    let tests = tests();
    let (mut faults, mut named) = (0, 0);
    let all = rows("verification.md");
    let begins = all.iter().position(|row| row[0] == "fault").unwrap();
    for row in all[begins..].iter().filter(|row| row[0] != "fault") {
        assert_eq!(row.len(), 5, "{row:?}");
        let cell = quoted(&row[4]);
        assert!(!cell.is_empty(), "no test in {row:?}");
        faults += 1;
        for test in cell.into_iter().filter(|test| !SUITES.contains(test)) {
            must_exist("docs/verification.md", test, &tests);
            named += 1;
        }
    }
    assert!(faults >= 50 && named >= 70, "{faults} faults, {named} tests: is the check blind?");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/threat-model.md");
    let model = fs::read_to_string(path).unwrap();
    let claims: Vec<&str> = quoted(&model).into_iter().filter(|quoted| quoted.contains(": ")).collect();
    claims.iter().for_each(|test| must_exist("docs/threat-model.md", test, &tests));
    assert!(claims.len() >= 25, "{} claims with a test", claims.len());
}

/// Whether a function is one that runs: it stands below an attribute that says so, its comments and other attributes apart.
fn is_test(files: &[String], name: &str) -> bool {
    let text = files.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let before = text.split(&format!("fn {name}(")).next().unwrap_or_default();
    let mut above = before.lines().rev().take_while(|line| !line.trim().is_empty() && line.trim() != "}");
    above.any(|line| line.contains("#[test]") || line.contains("#[tokio::test"))
}

/// Each row of the parity table names what it is here, and that is public.
#[test]
fn the_parity_table_names_public_items() {
    let sources: String = sources().into_iter().map(|(_, code)| code).collect();
    for row in &rows("parity.md")[1..] {
        let here = quoted(&row[row.len() - 2]);
        assert!(!here.is_empty(), "nothing public in {row:?}");
        for item in here {
            let mut words = item.split(|c: char| !(c.is_alphanumeric() || c == '_')).filter(|word| !word.is_empty());
            let name = words.next_back().unwrap();
            let public =
                ["pub fn", "pub async fn", "pub struct", "pub enum", "pub const fn", "   "].iter().any(|kind| {
                    [" ", "(", ",", "<", ":", "\n"].iter().any(|end| sources.contains(&format!("{kind} {name}{end}")))
                });
            assert!(public, "{item} of {row:?} is not public");
        }
    }
}

/// Handles cross threads.
#[test]
fn handles_are_send_and_sync() {
    fn both<T: Send + Sync>() {}
    both::<dynamo_elector::LockClient>();
    both::<dynamo_elector::Lock>();
    both::<dynamo_elector::Elector>();
    both::<dynamo_elector::Leadership>();
    both::<dynamo_elector::LeadershipView>();
    both::<dynamo_elector::Fence>();
    both::<dynamo_elector::FenceCondition>();
    both::<dynamo_elector::Status>();
    both::<dynamo_elector::Error>();
}

/// As the tables of the docs name them.
fn profiles() -> [(&'static str, Timing); 4] {
    [
        ("`economy()`", Timing::economy()),
        ("`default()`", Timing::default()),
        ("`fast()`", Timing::fast()),
        ("`aggressive()`", Timing::aggressive()),
    ]
}

/// The numbers in the table of grace periods are those of the code.
#[test]
fn the_grace_periods_of_the_docs_follow_from_the_code() {
    let builder = sources().into_iter().find(|(file, _)| file == "elector/builder.rs").unwrap().1;
    let drain = builder.split("const DRAIN_TIMEOUT: Duration = Duration::from_secs(").nth(1).unwrap();
    let drain = Duration::from_secs(drain.split(')').next().unwrap().parse().unwrap());
    let docker = Duration::from_secs(10);
    let seconds = |time: Duration| format!("{} s", time.as_secs_f64());
    let rows = rows("deploying.md");
    for (profile, timing) in profiles() {
        let row = rows.iter().find(|row| row[0] == profile).unwrap_or_else(|| panic!("no row of {profile}"));
        // Until a moment after the next heartbeat, or a poll, and no longer than it is set to by default.
        let most = (timing.heartbeat() * 2).min(Duration::from_secs(5));
        let notice = timing.heartbeat().max(timing.poll()) + Duration::from_millis(250);
        // In tenths, rounded up.
        let tenths = u64::try_from(notice.min(most).as_millis().div_ceil(100)).unwrap();
        let notice = Duration::from_millis(tenths * 100);
        let grace = notice + drain + timing.operation_timeout();
        let spare = docker.checked_sub(grace).map(|spare| format!("{} to spare", seconds(spare)));
        let spare = spare.unwrap_or_else(|| "too long: shorten the notice or the drain".to_owned());
        let expected = [
            profile.to_owned(),
            seconds(notice),
            seconds(drain),
            seconds(timing.operation_timeout()),
            seconds(grace),
            spare,
            seconds(timing.lease() + timing.poll()),
        ];
        assert_eq!(row.as_slice(), expected);
    }
}

/// Examples are run by `.ci/run`, found from the README, and say at their top when to copy them.
#[test]
fn every_example_is_run_named_and_introduced() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (ci, readme) = (read(&root.join(".ci/run")), read(&root.join("README.md")));
    let runs: Vec<&str> = ci
        .lines()
        .filter(|line| line.contains("--example ") || line.starts_with("for example in "))
        .flat_map(|line| line.split([' ', ';']))
        .collect();
    let mut found = 0;
    for entry in fs::read_dir(root.join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let code = read(&if path.is_dir() { path.join("main.rs") } else { path });
        found += 1;
        assert!(runs.contains(&name.as_str()), ".ci/run does not run {name}");
        let named = readme.contains(&format!("`{name}`")) || readme.contains(&format!("cargo run --example {name}"));
        assert!(named, "the README does not name {name}");
        let introduction = code.lines().take_while(|line| line.starts_with("//!")).count();
        assert!(introduction >= 5, "{name} begins with {introduction} lines of comment");
    }
    assert!(found >= 6, "{found} examples");
}

/// Every attribute that is written is documented, and nothing else.
#[test]
fn the_attributes_of_the_docs_are_those_of_the_code() {
    let record = sources().into_iter().find(|(file, _)| file == "store/record.rs").unwrap().1;
    let constants = record.split("mod attribute {").nth(1).unwrap().split("ALL:").next().unwrap();
    let written: Vec<&str> = constants.split('"').skip(1).step_by(2).collect();
    let rows = rows("wire.md");
    let documented: Vec<&str> = rows.iter().filter_map(|row| row[0].strip_prefix('`')?.strip_suffix('`')).collect();
    assert_eq!(documented, written);
}
