//! A contest: another client and two of ours want one lock, each a process, and now and then one is killed.

use std::time::Duration;

use super::journal::Journal;
use super::peer::{Kind, Peer};
use super::scenarios::World;
use crate::clock;

/// Contenders 1 and 2 are ours.
const THEM: usize = 0;
const CONTENDERS: usize = 3;
const LEASE: Duration = Duration::from_secs(2);
const OUR_LEASE: Duration = Duration::from_secs(3);
/// Between its own look at its clock and its word of it, a peer without a margin may be this late.
const LATE_WORD: Duration = Duration::from_millis(50);

fn start(world: &World, kind: &Kind, who: usize) -> Peer {
    let text = if kind.writes_millis() { "java" } else { "go" };
    let mut peer = if who == THEM {
        Peer::start(kind, &world.settings("theirs", LEASE, LEASE / 4), &[])
    } else {
        let settings = world.settings(&format!("ours-{who}"), OUR_LEASE, OUR_LEASE / 4);
        Peer::start(&Kind::Ours, &settings, &[("PEER_TEXT", text), ("PEER_FENCING", "record")])
    };
    peer.send("contend job 400 50");
    peer
}

pub(super) fn contest(kind: &Kind, time: Duration) {
    let seed = std::env::var("CONTEST_SEED").map_or_else(|_| fastrand::u64(..), |seed| seed.parse().unwrap());
    let mut rng = fastrand::Rng::with_seed(seed);
    let world = World::new(kind);
    let mut peers: Vec<Peer> = (0..CONTENDERS).map(|who| start(&world, kind, who)).collect();
    let names: Vec<String> = peers.iter().map(|peer| peer.name.clone()).collect();
    let (mut journal, mut kills) = (Journal::default(), 0);
    let begun = clock();
    let mut next_kill = Duration::from_secs(3);
    while begun.elapsed() < time {
        for (who, peer) in peers.iter().enumerate() {
            while let Some(line) = peer.line(Duration::from_millis(1)) {
                journal.line(who, &line);
            }
        }
        if begun.elapsed() >= next_kill {
            next_kill = begun.elapsed() + Duration::from_millis(rng.u64(2_000..6_000));
            let who = rng.usize(0..CONTENDERS);
            stop(&mut journal, &mut peers[who], who);
            kills += 1;
            peers[who] = start(&world, kind, who);
        }
    }
    for (who, peer) in peers.iter_mut().enumerate() {
        stop(&mut journal, peer, who);
    }
    judge(&journal, &names, kills, seed);
}

fn stop(journal: &mut Journal, peer: &mut Peer, who: usize) {
    peer.kill();
    for line in peer.rest() {
        // The last line of a killed process may be half a line.
        if line.split(' ').count() > 1 && !line.ends_with(' ') {
            journal.line(who, &line);
        }
    }
    journal.close(who);
}

fn judge(journal: &Journal, names: &[String], kills: u32, seed: u64) {
    let terms = |who: usize| journal.beliefs.iter().filter(|belief| belief.who == who).count();
    let overlaps = journal.overlaps();
    println!(
        "contest of {names:?}, seed {seed}: terms {:?}, {kills} kills, {} overlaps, tokens {:?}..{:?}, {} accepted, {} refused by the fence, troubles {:?}",
        (0..CONTENDERS).map(terms).collect::<Vec<_>>(),
        overlaps.len(),
        journal.tokens().first(),
        journal.tokens().last(),
        journal.accepted.len(),
        journal.refused.len(),
        journal.troubles
    );
    assert!((0..CONTENDERS).all(|who| terms(who) > 2), "each had its turns");
    for overlap in &overlaps {
        // A client without a margin says so itself, a little late. Nothing else is explained.
        let explained = overlap.first.who == THEM && overlap.nanos() <= u64::try_from(LATE_WORD.as_nanos()).unwrap();
        assert!(explained, "{overlap:?}");
    }
    let tokens = journal.tokens();
    assert!(tokens.windows(2).all(|pair| pair[0] < pair[1]), "tokens rise strictly: {tokens:?}");
    assert!(journal.refused.is_empty(), "a holder was fenced off: {:?}", journal.refused);
    assert!(journal.accepted.len() > 4, "the fenced record was written");
    let odd = journal.troubles.iter().filter(|trouble| !trouble.contains("error refused") && !trouble.contains("lost"));
    assert_eq!(odd.count(), 0, "{:?}", journal.troubles);
}
