//! Fuzz target: sequences of events against the real core, with the invariants of [`properties`](crate::properties). A line is
//! an event: `pass 1500`, `wake 0`, `arrive 3 unanswered again`, `answer 1`, `give-up 0`, `resign 0`, `end-work 0`, `extend 0 3`,
//! `crash 1`. What proptest draws blindly, libFuzzer steers into what no sequence has reached yet.

use std::path::Path;

use crate::fuzz::fuzz;
use crate::properties::{Act, NODES, run};

#[test]
fn events() {
    const TOKENS: [&str; 28] = [
        "",
        "\n",
        " ",
        "0",
        "1",
        "2",
        "5",
        "00",
        "wake 0\n",
        "wake 1\n",
        "pass 50\n",
        "pass 900\n",
        "pass 2500\n",
        "pass 8000\n",
        "pass 10000\n",
        "arrive 0\n",
        "arrive 1 unanswered\n",
        "arrive 0 unanswered again\n",
        "arrive 0 again\n",
        "answer 0\n",
        "answer 1\n",
        "give-up 0\n",
        "give-up 1\n",
        "resign 0\n",
        "end-work 0\n",
        "extend 0 3\n",
        "extend 0 1\n",
        "crash 0\n",
    ];
    fuzz("corpus/events", &TOKENS, |text| {
        run(&acts(text));
    });
}

/// The corpus is no list of words: each of its files ends with how many holders it elects.
#[test]
fn the_corpus_of_events_elects_holders() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/events");
    let mut wrong = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let (name, text) = (path.file_name().unwrap().to_string_lossy(), std::fs::read_to_string(&path).unwrap());
        let acts = acts(&text);
        assert_eq!(acts.len(), text.lines().count(), "{name}: a line is no event");
        let terms = run(&acts);
        if !name.ends_with(&format!("-terms-{terms}")) {
            wrong.push(format!("{name} has {terms}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A line that is no event is left out.
fn acts(text: &str) -> Vec<Act> {
    text.lines().filter_map(act).collect()
}

fn act(line: &str) -> Option<Act> {
    /// The longest time that passes at once: months, so that it never saturates.
    const MOST: u64 = 10_000_000_000;
    let mut words = line.split(' ');
    let (verb, number) = (words.next()?, words.next()?.parse::<u64>().ok()?);
    let (which, rest) = (usize::try_from(number).ok()?, words.collect::<Vec<_>>());
    let node = which % NODES;
    Some(match verb {
        "pass" => Act::Pass(number.min(MOST)),
        "wake" => Act::Wake(node),
        "arrive" => Act::Arrive { which, answered: !rest.contains(&"unanswered"), again: rest.contains(&"again") },
        "answer" => Act::Answer(which),
        "give-up" => Act::GiveUpWaiting(node),
        "resign" => Act::Resign(node),
        "end-work" => Act::WorkEnds(node),
        "extend" => Act::Extend(node, rest.first()?.parse().ok().filter(|times| (1..=3).contains(times))?),
        "crash" => Act::Crash(node),
        _ => return None,
    })
}
