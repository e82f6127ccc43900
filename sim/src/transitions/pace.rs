//! When a follower looks next: found renewals, missed ones, moved schedules, announced ends.

use super::*;

const POLL: u64 = 1_000;

/// A record of a holder that renews every `beat` and lets go after `ending`.
fn planned(name: &str, beat: Option<u64>, ending: Option<u64>) -> Seen {
    Seen::Record(Sighting { plan: Plan { heartbeat: beat.map(ms), ending: ending.map(ms) }, ..sighting(name) })
}

/// The record in this term.
fn of(token: u64, seen: Seen) -> Seen {
    match seen {
        Seen::Record(found) => Seen::Record(Sighting { token: Some(token), ..found }),
        other => other,
    }
}

/// A follower, what it knows, and how many looks it has had.
struct Follower {
    candidate: Candidate,
    known: Observation,
    looks: u32,
}

impl Follower {
    fn new() -> Self {
        let candidate = Candidate::new(ms(POLL), ms(L), Absence::WaitsOutLease, false).phase_locked();
        Self { candidate, known: Observation::default(), looks: 0 }
    }

    /// The same one, to try something else with it.
    fn fork(&self) -> Self {
        Self { candidate: self.candidate.clone(), known: self.known.clone(), looks: 0 }
    }

    /// A look, sent then and answered 10 ms later: when the next one comes.
    fn looks(&mut self, sent: u64, seen: Seen) -> u64 {
        self.looks += 1;
        let (now, sent) = (at(sent + 10), SentAt(at(sent)));
        self.known.observe(seen, sent, ReceivedAt(now), Consistency::Eventual);
        self.candidate.answered(&self.known, sent, now);
        match self.candidate.next(&self.known, now) {
            Next::Wait(until) => until.nanos().div_ceil(1_000_000),
            next => panic!("{next:?}"),
        }
    }

    /// Looks at a record that is renewed at 100, 100 + `beat`, …, until so many renewals have been seen: the last look, and the next.
    fn follows(&mut self, from: u64, beat: u64, renewals: u32) -> (u64, u64) {
        let (mut seen, mut last, mut next) = (0, 0, from);
        let mut newest = None;
        while seen < renewals {
            last = next;
            let current = (last + 5).checked_sub(100).map_or(0, |since| 1 + since / beat);
            seen += u32::from(newest.replace(current) != Some(current));
            next = self.looks(last, planned(&format!("v{current}"), Some(beat), None));
        }
        (last, next)
    }
}

#[test]
fn a_renewal_is_looked_for_just_after_it_comes() {
    let mut follower = Follower::new();
    // Polls until one look shows nothing new and a later one does; from there on it closes in.
    let (found, next) = follower.follows(900, 2_500, 12);
    assert!(follower.looks <= 20, "{} looks for twelve renewals", follower.looks);
    let (looks, renewals) = (follower.looks, 40);
    let (again, _) = follower.follows(next, 2_500, renewals);
    let late = (again + 5 - 100) % 2_500;
    assert!(late <= 40, "{late} ms after the renewal ({found})");
    assert!(follower.looks - looks <= renewals * 6 / 5, "{} looks for {renewals} renewals", follower.looks - looks);
}

#[test]
fn looks_that_come_too_early_are_repeated_ever_more_rarely() {
    let mut follower = Follower::new();
    let (_, next) = follower.follows(900, 2_500, 12);
    let gone = |follower: &mut Follower, sent| follower.looks(sent, planned("gone", Some(2_500), None));
    let mut sent = gone(&mut follower, next);
    // That one was new; the holder died then.
    let mut pauses = Vec::new();
    for _ in 0..6 {
        let next = gone(&mut follower, sent);
        pauses.push(next - sent - 10);
        sent = next;
    }
    assert_eq!(pauses, [20, 80, 320, POLL, POLL, POLL]);
}

#[test]
fn in_the_long_run_there_are_no_more_looks_than_polls() {
    let mut follower = Follower::new();
    // Its heartbeats come anywhere: each look is a search.
    let (mut sent, end) = (900, 600_000);
    let mut random = fastrand::Rng::with_seed(1);
    let (mut renewal, mut version) = (1_000, 0);
    while sent < end {
        while renewal <= sent {
            renewal += random.u64(700..1_500);
            version += 1;
        }
        sent = follower.looks(sent, planned(&format!("v{version}"), Some(1_100), None));
    }
    assert!(u64::from(follower.looks) <= end / POLL + 10, "{} looks", follower.looks);
}

/// Looks a poll apart at something that is renewed each third time.
fn assert_polled(mut follower: Follower, seen: impl Fn(&str) -> Seen) {
    for (look, name) in (0..9).zip(["a", "a", "a", "b", "b", "b", "c", "c", "c"]) {
        let sent = 100 + look * (POLL + 10);
        assert_eq!(follower.looks(sent, seen(name)), sent + 10 + POLL, "look {look}");
    }
}

#[test]
fn what_has_no_schedule_that_helps_is_polled() {
    for heartbeat in [None, Some(0), Some(POLL / 2), Some(POLL)] {
        assert_polled(Follower::new(), |name| planned(name, heartbeat, None));
    }
    assert_polled(Follower::new(), |name| match planned(name, Some(2_500), Some(0)) {
        Seen::Record(ours) => Seen::Record(Sighting { writer: Writer::Foreign, ..ours }),
        other => other,
    });
}

#[test]
fn whoever_waits_for_a_lock_polls() {
    let candidate = Candidate::new(ms(POLL), ms(L), Absence::WaitsOutLease, false);
    assert_polled(Follower { candidate, ..Follower::new() }, |name| planned(name, Some(2_500), None));
}

#[test]
fn a_renewal_between_two_polls_is_searched_for_and_closed_in_on() {
    let mut follower = Follower::new();
    // Sent, what it shows, and when the next one is sent.
    for (sent, name, next) in [
        (1_000, "a", 2_010),
        (2_010, "a", 3_020),
        (3_020, "b", 2_010 + 2_500 + 127),
        // An eighth of what is not known at a time.
        (4_637, "b", 4_647 + 127),
        (4_774, "c", 4_637 + 2_500 + 80),
        // 80 ms at least.
        (7_217, "c", 7_227 + 80),
        // Found: half of that, and then half of the half, as long as the first look finds it.
        (7_307, "d", 7_307 + 2_500 - 45),
        (9_762, "e", 9_762 + 2_500 - 22),
        (12_240, "f", 12_240 + 2_500 - 11),
        (14_729, "f", 14_739 + 20),
        (14_759, "g", 14_759 + 2_500 - 2),
        // Exactly when it must have come, and later.
        (17_257, "g", 17_267 + 20),
        (17_259, "g", 17_269 + 80),
        (17_349, "g", 17_359 + 320),
    ] {
        if sent == 7_217 {
            // Or by the first look of a search, if a little late.
            let mut other = follower.fork();
            assert_eq!(other.looks(7_227, planned("d", Some(2_500), None)), 7_227 + 2_500 - 45);
        }
        assert_eq!(follower.looks(sent, planned(name, Some(2_500), None)), next, "after the look at {sent}");
    }
}

#[test]
fn steps_grow_to_an_eighth_of_a_heartbeat() {
    let mut follower = Follower::new();
    let (_, mut sent) = follower.follows(900, 2_500, 12);
    let mut pauses = Vec::new();
    for look in 0..30 {
        let next = follower.looks(sent, planned(&format!("new {look}"), Some(2_500), None));
        pauses.push(next - sent);
        sent = next;
    }
    assert!(pauses.iter().all(|pause| (2_187..=2_500).contains(pause)), "{pauses:?}");
    assert!(pauses.ends_with(&[2_188; 10]), "{pauses:?}");
}

#[test]
fn a_look_that_comes_late_moves_no_schedule() {
    let mut follower = Follower::new();
    let (_, aim) = follower.follows(900, 2_500, 12);
    assert_eq!(follower.looks(aim + 1_500, planned("late", Some(2_500), None)), aim + 2_500);
    // Nor does one whose answer takes longer than some heartbeats.
    let (sent, now) = (at(aim + 2_500), at(aim + 2_500 + 6_000));
    follower.known.observe(planned("slow", Some(2_500), None), SentAt(sent), ReceivedAt(now), Consistency::Eventual);
    follower.candidate.answered(&follower.known, SentAt(sent), now);
    let next = follower.candidate.next(&follower.known, now);
    let Next::Wait(next) = next else { panic!("{next:?}") };
    assert!(next > now && next <= now.after(ms(2_500)), "{next:?}");
    assert!(next.after(ms(5)).since(sent).as_millis() % 2_500 <= 10, "on the schedule that it had: {next:?}");
}

#[test]
fn clocks_that_run_apart_are_followed() {
    let mut follower = Follower::new();
    // It says 2,500 and means 2,450 of our milliseconds.
    let (mut sent, mut late) = (900_u64, Vec::new());
    while sent < 300_000 {
        let since = (sent + 5).saturating_sub(100);
        late.push(since % 2_450);
        sent = follower.looks(sent, planned(&format!("v{}", since / 2_450), Some(2_500), None));
    }
    // Looks that came too early are those just before a renewal.
    let found: Vec<u64> = late.into_iter().skip(40).filter(|late| *late < 1_800).collect();
    assert!(found.iter().all(|late| *late <= 700), "{found:?}");
    assert!(found.len() > 60, "{}", found.len());
}

#[test]
fn a_long_schedule_is_looked_at_in_between() {
    let mut follower = Follower::new();
    let (found, next) = follower.follows(900, 8_000, 8);
    assert_eq!(next, found + 10 + 5_000);
    // What it shows there, new or not, does not move what is known of the schedule.
    for name in ["v8", "off the schedule"] {
        let mut follower = follower.fork();
        let aimed = follower.looks(next, planned(name, Some(8_000), None));
        assert!(aimed.abs_diff(found + 8_000) <= 20, "{name}: {aimed}");
    }
}

/// Nobody renews so rarely that the lease runs out before.
#[test]
fn a_schedule_as_long_as_the_lease_is_not_believed() {
    let mut follower = Follower::new();
    let (found, next) = follower.follows(900, 10_000, 8);
    assert_eq!(next, found + 10 + 1_000, "polled");
}

#[test]
fn a_schedule_that_moves_is_found_again() {
    let mut follower = Follower::new();
    follower.follows(900, 2_500, 12);
    // The next holder beats at other times, and less often.
    let mut next = follower.looks(100_000, planned("next", Some(4_000), None));
    assert_eq!(next, 100_010 + POLL, "nothing is known of it");
    let (mut looks, mut late) = (0, u64::MAX);
    while late > 40 {
        let version = (next + 5 - 97_300) / 4_000;
        late = (next + 5 - 97_300) % 4_000;
        next = follower.looks(next, planned(&format!("w{version}"), Some(4_000), None));
        looks += 1;
        assert!(looks < 40, "{late} ms after the renewal");
    }
}

/// A record of a holder that renews every 2,500 and lets go after `ending`.
fn announced(follower: &mut Follower, sent: u64, name: &str, ending: u64) -> u64 {
    follower.looks(sent, planned(name, Some(2_500), Some(ending)))
}

#[test]
fn a_holder_that_lets_go_is_looked_at_often_and_ever_less_so() {
    let mut follower = Follower::new();
    follower.looks(500, planned("z", Some(2_500), None));
    // Announced between 500 and 1,010: it ends between 2,500 and 3,010.
    assert_eq!(announced(&mut follower, 1_000, "a", 2_000), 2_010, "a poll, since it takes longer");
    assert_eq!(announced(&mut follower, 2_010, "a", 2_000), 2_450, "a little ahead");
    let mut sent = 2_450;
    let mut pauses = Vec::new();
    while sent < 60_000 {
        // Renewals while it winds down don't begin anew.
        let next = announced(&mut follower, sent, &format!("d{}", sent / 2_500), 0);
        let pause = next - sent - 10;
        // It said at 2,460 already that it had.
        let most = (sent + 10).saturating_sub(2_460).div_ceil(10);
        assert!(pause <= most.clamp(15, POLL), "{pause} ms at {sent}");
        pauses.push(pause);
        sent = next;
    }
    assert_eq!(pauses[..7], [15; 7]);
    assert_eq!(pauses.iter().max(), Some(&POLL));
    assert!(pauses.len() < 110, "{} looks in a minute", pauses.len());
    // Nor does another way to beat.
    for beat in [None, Some(4_000)] {
        let mut follower = follower.fork();
        let next = follower.looks(sent, planned("other", beat, Some(0)));
        assert!(next >= sent + 500, "{beat:?}: {next}");
    }
    // What comes after it is followed as ever.
    assert!(follower.looks(sent, planned("next", Some(2_500), None)) >= sent + 500, "there is no haste any more");
}

#[test]
fn an_end_that_is_not_known_exactly_is_not_looked_for_without_a_bound() {
    // It has never been looked at before: it was announced within a heartbeat, at some time.
    let mut follower = Follower::new();
    let (first, end) = (60_000, 60_010 + 5_000);
    let mut sent = announced(&mut follower, first, "a", 5_000);
    assert_eq!(sent, first + 10 + POLL);
    while sent < end {
        sent = announced(&mut follower, sent, "a", 5_000);
    }
    assert!((25..=40).contains(&follower.looks), "{} looks", follower.looks);
}

#[test]
fn an_end_announced_just_before_a_heartbeat_is_counted_from_that() {
    let mut follower = Follower::new();
    let (_, next) = follower.follows(900, 2_500, 12);
    // Announced a while ago, to end 250 ms after the heartbeat that is due, which this look misses.
    let again = announced(&mut follower, next, "announced", 1_900);
    assert_eq!(again, next + 10 + 20, "the heartbeat is yet to come");
    let eager = announced(&mut follower, again, "beat", 250);
    assert!(eager < again + 250, "{eager}");
    // It would have been looked for a second later otherwise.
    let mut sent = eager;
    while sent < again + 300 {
        let next = announced(&mut follower, sent, "beat", 250);
        assert!(next <= sent + 10 + 30 || next <= again + 250, "{next} after {sent}");
        sent = next;
    }
}

#[test]
fn the_next_schedule_is_found_whatever_the_last_end_took() {
    let mut follower = Follower::new();
    let mut sent = 900;
    while sent < 10_000 {
        sent = follower.looks(sent, of(7, planned("going", Some(2_500), Some(0))));
    }
    assert!(follower.looks > 30, "{} looks", follower.looks);
    // It is renewed at 12,600, 15,100, …: the first is polled for, the next one searched for.
    (follower.looks, sent) = (0, 10_100);
    let (mut seen, mut last) = (0, sent);
    while seen < 3 {
        last = sent;
        seen = (sent + 5 - 10_100) / 2_500;
        sent = follower.looks(sent, of(8, planned(&format!("v{seen}"), Some(2_500), None)));
    }
    assert!(last - 17_600 <= 100, "{last}");
    assert!(follower.looks <= 18, "{} looks", follower.looks);
}

#[test]
fn the_schedule_of_another_term_is_another_one() {
    let mut follower = Follower::new();
    let (mut next, mut renewals) = (900, 0);
    while renewals < 12 {
        let version = (next + 5 - 100) / 2_500;
        next = follower.looks(next, of(7, planned(&format!("v{version}"), Some(2_500), None)));
        renewals = version;
    }
    assert!(next > 30_000 && (next + 5 - 100) % 2_500 <= 40, "{next}");
    // Between two renewals: nothing to be learnt, had there not been another acquisition.
    let mut same = follower.fork();
    let between = next - 1_000;
    assert_eq!(same.looks(between, of(7, planned("between", Some(2_500), None))), next);
    assert_eq!(follower.looks(between, of(8, planned("taken", Some(2_500), None))), between + 10 + POLL);
}
