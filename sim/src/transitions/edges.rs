//! The edges of the tables: what differs by one comparison, one number, one answer.

use super::holder::In::{Applied, Beat, Read, Refused, Send, Unknown, WorkEnded};
use super::holder::{In, after, feed, holding, with};
use super::*;

fn creation(script: &[In]) -> Holder {
    let mut holder = Holder::claim(None, 1, terms(), at(0));
    script.iter().for_each(|input| feed(&mut holder, input));
    holder
}

/// Three writes without an answer, 700 ms apart from `start` on: past them a read is due.
fn unknowns(start: u64) -> Vec<In> {
    (0..3)
        .zip(["b", "c", "d"])
        .flat_map(|(n, name)| [Send(start + n * 700, name), Unknown(start + n * 700 + 10)])
        .collect()
}

#[test]
fn instants_and_versions_are_what_they_were_made_of() {
    assert_eq!(Moment::from_nanos(7).nanos(), 7);
    assert_eq!((at(10).since(at(4)), at(4).since(at(10))), (ms(6), Duration::ZERO));
    assert_eq!(version("v1").as_str(), "v1");
    let mut holder = after(&holding());
    assert_eq!(holder.token(), 3);
    holder.set_token(9);
    assert_eq!(holder.token(), 9);
}

/// R3: only a claim creates, and only where nothing was seen.
#[test]
fn nothing_is_created_by_mistake() {
    let mut take_over = after(&[]);
    assert!(!take_over.begin(SentAt(at(0)), version("a")).or_absent, "the record was seen");
    let mut given_up = creation(&[Send(0, "a"), Unknown(10), WorkEnded(20)]);
    assert!(!given_up.begin(SentAt(at(20)), version("r")).or_absent, "a release of nothing");
}

/// What a claim's refusal or read shows that is not somebody else's: it goes on, at its pace or at once.
#[test]
fn claims_go_on_while_what_they_were_made_on_stands() {
    let claiming = |seen| vec![Send(0, "a"), Refused(10, seen)];
    for (name, mut holder) in [
        ("its base, held", after(&claiming(record("old")))),
        ("its base, released", after(&claiming(released("old")))),
        ("nothing, where it creates", creation(&claiming(Seen::Absent))),
    ] {
        assert_eq!(
            (holder.phase(), holder.misses()),
            (Phase::Claiming, 1),
            "{name}: it was refused by what is no more"
        );
        assert_eq!(holder.poll(at(11)), Step::Wait(at(60)), "{name}: no tight loop");
    }
    let read = |seen| [unknowns(0), vec![Read(2_800, Some(seen))]].concat();
    for (name, mut holder) in [
        ("its base, held", after(&read(record("old")))),
        ("its base, released", after(&read(released("old")))),
        ("nothing, where it creates", creation(&read(Seen::Absent))),
    ] {
        assert_eq!(holder.poll(at(2_800)), Step::Send, "{name}: nothing of it has been applied, send on");
        assert_eq!(holder.phase(), Phase::Claiming, "{name}");
    }
    assert_eq!(after(&read(Seen::Absent)).phase(), Phase::Refused, "the record that it was to take over is gone");
    assert_eq!(creation(&read(record("x"))).phase(), Phase::Refused, "somebody has created it");
}

/// R6: only a lower number is an earlier term.
#[test]
fn a_number_like_ours_is_no_earlier_term() {
    let found = |token| Seen::Record(Sighting { token: Some(token), ..sighting("x") });
    for (token, loss) in [(2, Loss::TokenRegressed), (3, Loss::TakenOver), (4, Loss::TakenOver)] {
        let holder = after(&with(holding(), &[Send(H, "b"), Refused(H + 5, found(token))]));
        assert_eq!(holder.phase(), Phase::Lost(loss), "{token} under a holder of 3");
    }
}

/// R5: retries come soon, at least half of the pause apart, and never slower than four in a heartbeat.
#[test]
fn pauses_after_misses_double_up_to_a_quarter_of_a_heartbeat() {
    let mut holder = Holder::claim(Some(version("old")), 3, terms(), at(0));
    for (miss, pause) in (0..5_u64).zip([100_u64, 200, 400, 625, 625]) {
        for (spread, share) in [(1.0, 2), (0.0, 1)] {
            let mut holder = holder.clone();
            holder.begin(SentAt(at(miss)), version("v"));
            holder.on_reply(&Reply::Unknown, at(miss), spread);
            let expected = at(miss).after(ms(pause) * share / 2);
            if miss < 2 {
                assert_eq!(holder.poll(at(miss)), Step::Wait(expected), "miss {miss}, spread {spread}");
            } else {
                assert_eq!(holder.poll(expected), Step::Read, "miss {miss}: too many unknowns");
                assert_eq!(holder.poll(expected.before(Duration::from_nanos(1))), Step::Wait(expected), "miss {miss}");
            }
        }
        holder.begin(SentAt(at(miss)), version("v"));
        holder.on_reply(&Reply::Unknown, at(miss), 1.0);
    }
}

/// A release saves no lease: it may wait for longer.
#[test]
fn pauses_after_releases_that_fail_double_up_to_a_heartbeat() {
    let mut holder = after(&holding());
    holder.work_ended(at(0));
    for (miss, pause) in (0..7_u64).zip([100_u64, 200, 400, 800, 1_600, 2_500, 2_500]) {
        holder.begin(SentAt(at(miss)), version("v"));
        holder.on_reply(&Reply::Unknown, at(miss), 1.0);
        assert_eq!(holder.poll(at(miss)), Step::Wait(at(miss + pause)), "miss {miss}");
    }
}

/// R11: a read is a request too.
#[test]
fn nothing_is_sent_while_a_read_is_under_way() {
    let mut holder = after(&with(holding(), &unknowns(H)));
    assert_eq!(holder.poll(at(H + 2_800)), Step::Read);
    holder.begin_read();
    assert_eq!(holder.poll(at(H + 2_801)), Step::Wait(at(V)));
    holder.on_read(Some(&record("a")), at(H + 2_810), 0.0);
    assert_eq!(holder.poll(at(H + 2_810)), Step::Send);
}

/// R3: the base, the latest of those without an answer, and itself: four, also when the memory holds more.
#[test]
fn a_condition_names_four_versions_at_most() {
    let mut holder = after(&with(holding(), &unknowns(H)));
    holder.begin_read();
    holder.on_read(Some(&record("a")), at(H + 2_800), 0.0);
    let write = holder.begin(SentAt(at(H + 2_900)), version("e"));
    assert_eq!(*write.names, [version("a"), version("c"), version("d"), version("e")]);
    holder.on_reply(&Reply::Unknown, at(H + 2_910), 0.0);
    feed(&mut holder, &Beat(H + 2_920));
    let write = holder.begin(SentAt(at(H + 2_920)), version("f"));
    assert_eq!(*write.names, [version("a"), version("d"), version("e"), version("f")]);
    feed(&mut holder, &Applied(H + 2_930));
    assert_eq!(holder.held_until(), Some(at(H + 2_920 + V)));
}

mod follower {
    use super::super::follower::{observation, observe};
    use super::*;

    #[test]
    fn what_is_known_is_told_for_this_version_alone() {
        let held = observation(&[(100, record("x"))]);
        assert_eq!(held.held_until(), Some(at(100 + L)));
        assert_eq!((held.known_since(&version("x")), held.known_since(&version("y"))), (Some(at(100)), None));
        let free = observation(&[(100, released("x"))]);
        assert_eq!((free.held_until(), free.known_since(&version("x"))), (None, Some(at(100))));
        let gone = observation(&[(100, record("x")), (200, Seen::Absent)]);
        assert_eq!((gone.held_until(), gone.known_since(&version("x"))), (None, None));
    }

    /// The mark of a release is never taken off without a new version, but by a read from the past.
    #[test]
    fn a_release_is_not_undone_by_an_answer_from_the_past() {
        let mut known = observation(&[(100, released("x"))]);
        assert_eq!(observe(&mut known, 200, record("x"), Consistency::Eventual), Noted::Stale);
        assert_eq!(known.held_until(), None, "it stays free");
        assert_eq!(
            observe(&mut known, 300, record("x"), Consistency::Strong),
            Noted::Changed,
            "unless it is confirmed"
        );
        assert_eq!(known.held_until(), Some(at(100 + L)));
        let changed = Seen::Record(Sighting { released: true, token: Some(9), ..sighting("y") });
        let mut known = observation(&[(100, released("y"))]);
        assert_eq!(observe(&mut known, 200, changed, Consistency::Eventual), Noted::Changed, "still released");
    }

    /// R2: so many versions before the latest are known for what they are.
    #[test]
    fn sixteen_versions_back_an_answer_is_still_from_the_past() {
        let names: Vec<String> = (0..=17).map(|n| format!("v{n}")).collect();
        let history: Vec<(u64, Seen)> = (1..).map(|n| n * 100).zip(names.iter().map(|name| record(name))).collect();
        for (back, noted) in [(1, Noted::Stale), (2, Noted::Stale), (16, Noted::Stale), (17, Noted::Changed)] {
            let mut known = observation(&history);
            let name = &names[17 - back];
            assert_eq!(observe(&mut known, 9_000, record(name), Consistency::Eventual), noted, "{name}");
        }
    }

    #[test]
    fn a_candidate_that_only_a_human_can_help_looks_rarely() {
        let free = observation(&[(100, released("x"))]);
        let mut candidate = Candidate::new(ms(1_000), ms(L), Absence::WaitsOutLease, false);
        candidate.blocked(at(200));
        assert_eq!(candidate.next(&free, at(201)), Next::Wait(at(200 + 10_000)), "though it is free");
    }

    #[test]
    fn pauses_after_failures_are_scattered_over_their_latter_half() {
        let unknown = Observation::default();
        for (spread, pause) in [(0.0, 125_000), (0.5, 187_500), (1.0, 250_000)] {
            let mut candidate = Candidate::new(ms(1_000), ms(L), Absence::WaitsOutLease, false);
            candidate.failed(true, at(0), spread);
            let expected = Moment::default().after(Duration::from_micros(pause));
            assert_eq!(candidate.next(&unknown, at(0)), Next::Wait(expected), "{spread}");
        }
    }
}

/// What every write tells of its holder's schedule and of its end.
#[test]
fn writes_tell_what_is_planned() {
    let plan = |holder: &mut Holder, sent| holder.begin(SentAt(at(sent)), version("p")).plan;
    let mut holder = after(&holding());
    assert_eq!(plan(&mut holder, H), Plan { heartbeat: Some(ms(H)), ending: None });
    let on_demand = Terms { renewal: Renewal::OnDemand, ..terms() };
    let mut asked = Holder::claim(None, 1, on_demand, at(0));
    assert_eq!(plan(&mut asked, 0), Plan::default(), "nobody knows when it is asked");

    let mut leaving = after(&holding());
    assert_eq!(leaving.announce(at(100), ms(1_000), ms(5_000)), Some(at(H + 250)));
    assert_eq!(plan(&mut leaving, 110), Plan { heartbeat: Some(ms(H)), ending: Some(ms(H + 250 - 110)) });
    leaving.on_reply(&Reply::Applied, at(120), 0.0);
    assert_eq!(leaving.poll(at(130)), Step::Wait(at(H)), "the schedule stands");
    assert_eq!(plan(&mut leaving, H), Plan { heartbeat: Some(ms(H)), ending: Some(ms(250)) }, "again");
    leaving.on_reply(&Reply::Applied, at(H + 10), 0.0);
    leaving.resign();
    assert_eq!(plan(&mut leaving, 2 * H).ending, Some(Duration::ZERO), "while it winds down");
}

/// Until followers have looked once, and no longer than is allowed; not where they would not hear of it.
#[test]
fn an_announced_end_waits_for_those_who_follow_and_for_nobody_else() {
    let (poll, most) = (ms(1_000), ms(5_000));
    for (what, script, now, expected) in [
        ("those who follow heartbeats look after the next", holding(), 100, Some(H + 250)),
        ("those who poll look within a poll", holding(), 2_000, Some(3_250)),
        ("the beat that is due tells of it", holding(), H - 1, Some(H - 1 + 1_250)),
        ("the one under way does not", with(holding(), &[Send(H, "b")]), H, Some(2 * H + 250)),
        ("nor while it is still young", with(holding(), &[Send(H, "b")]), H + 250, Some(2 * H + 250)),
        ("it is slow", with(holding(), &[Send(H, "b")]), H + 251, None),
        ("it failed", with(holding(), &[Send(H, "b"), Unknown(H + 10)]), H + 20, None),
        ("it came through again", with(holding(), &[Send(H, "b"), Applied(H + 10)]), H + 300, Some(2 * H + 250)),
        ("nothing is held yet", vec![], 0, None),
        ("it ends already", with(holding(), &[In::Resign]), 100, None),
    ] {
        assert_eq!(after(&script).announce(at(now), poll, most), expected.map(at), "{what}");
    }
    assert_eq!(after(&holding()).announce(at(100), poll, ms(800)), Some(at(900)), "no longer than it may");
    assert_eq!(after(&holding()).announce(at(100), poll, Duration::ZERO), None);
    let on_demand = Terms { renewal: Renewal::OnDemand, ..terms() };
    let mut asked = Holder::claim(None, 1, on_demand, at(0));
    asked.begin(SentAt(at(0)), version("a"));
    asked.on_reply(&Reply::Applied, at(10), 0.0);
    assert_eq!(asked.announce(at(100), poll, most), Some(at(1_350)), "it has no schedule");
}
