//! Every transition of the three machines, as tables: a state reached by a script, one input, what must follow.

mod edges;
mod pace;

use std::time::Duration;

use crate::protocol::*;

const L: u64 = 10_000;
const V: u64 = 8_000;
const H: u64 = 2_500;

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn at(millis: u64) -> Moment {
    Moment::from_nanos(millis * 1_000_000)
}

fn terms() -> Terms {
    Terms { lease: ms(L), validity: ms(V), heartbeat: ms(H), renewal: Renewal::Scheduled, hard_limit: ms(9_500) }
}

fn version(name: &str) -> Version {
    Version::new(name)
}

fn sighting(name: &str) -> Sighting {
    Sighting {
        version: version(name),
        lease: ms(L),
        released: false,
        writer: Writer::Ours,
        token: Some(4),
        plan: Plan::default(),
    }
}

fn record(name: &str) -> Seen {
    Seen::Record(sighting(name))
}

fn released(name: &str) -> Seen {
    Seen::Record(Sighting { released: true, ..sighting(name) })
}

mod holder {
    use super::*;

    /// One input to a holder, at a time in milliseconds.
    #[derive(Debug, Clone)]
    pub(super) enum In {
        Send(u64, &'static str),
        Applied(u64),
        Refused(u64, Seen),
        Unknown(u64),
        Read(u64, Option<Seen>),
        Expire(u64),
        Resign,
        WorkEnded(u64),
        Abandon,
        Beat(u64),
    }
    use In::*;

    pub(super) fn feed(holder: &mut Holder, input: &In) {
        match input {
            Send(time, name) => {
                assert_eq!(holder.poll(at(*time)), Step::Send, "{name} is due");
                holder.begin(SentAt(at(*time)), version(name));
            }
            Applied(time) => holder.on_reply(&Reply::Applied, at(*time), 0.0),
            Refused(time, seen) => holder.on_reply(&Reply::Refused(seen.clone()), at(*time), 0.0),
            Unknown(time) => holder.on_reply(&Reply::Unknown, at(*time), 0.0),
            Read(time, seen) => {
                assert_eq!(holder.poll(at(*time)), Step::Read, "a read is due");
                holder.begin_read();
                holder.on_read(seen.as_ref(), at(*time), 0.0);
            }
            Expire(time) => holder.expire(at(*time)),
            Resign => holder.resign(),
            WorkEnded(time) => holder.work_ended(at(*time)),
            Abandon => holder.abandon(),
            Beat(time) => holder.beat_now(at(*time)),
        }
    }

    pub(super) fn after(script: &[In]) -> Holder {
        let mut holder = Holder::claim(Some(version("old")), 3, terms(), at(0));
        for input in script {
            feed(&mut holder, input);
        }
        holder
    }

    /// Claimed at 0 with version `a`, acknowledged at 10 ms.
    pub(super) fn holding() -> Vec<In> {
        vec![Send(0, "a"), Applied(10)]
    }

    pub(super) fn with(mut script: Vec<In>, more: &[In]) -> Vec<In> {
        script.extend_from_slice(more);
        script
    }

    #[test]
    #[allow(clippy::too_many_lines, reason = "one table")]
    fn every_phase_answers_every_input_as_it_should() {
        use Phase::{Claiming, Draining, Ended, Holding, Lost, Releasing};
        let lost = || with(holding(), &[Expire(V)]);
        let renewing = || with(holding(), &[Send(H, "b")]);
        let draining = || with(holding(), &[Resign]);
        let releasing = || with(holding(), &[Resign, WorkEnded(100), Send(100, "r")]);
        let claiming = || vec![Send(0, "a")];
        let table: Vec<(&str, Vec<In>, Phase)> = vec![
            // Claiming
            ("nothing was sent yet", vec![], Claiming),
            ("claim acknowledged", holding(), Holding),
            ("claim acknowledged when its validity is over", with(claiming(), &[Applied(V)]), Releasing),
            ("claim refused by another's version", with(claiming(), &[Refused(10, record("x"))]), Phase::Refused),
            ("claim refused: the record is gone", with(claiming(), &[Refused(10, Seen::Absent)]), Phase::Refused),
            ("claim refused: malformed", with(claiming(), &[Refused(10, Seen::Malformed)]), Phase::Refused),
            ("claim refused by its own version: adopted", with(claiming(), &[Refused(10, record("a"))]), Holding),
            ("claim refused, though its base stands", with(claiming(), &[Refused(10, record("old"))]), Claiming),
            ("claim unanswered", with(claiming(), &[Unknown(2_000)]), Claiming),
            ("claim given up before anything was sent", vec![WorkEnded(5)], Phase::Refused),
            ("claim given up while its fate is open", with(claiming(), &[Unknown(50), WorkEnded(60)]), Releasing),
            ("claims do not expire", with(claiming(), &[Expire(60_000)]), Claiming),
            ("claims can't be resigned", with(claiming(), &[Resign]), Claiming),
            ("a claim is abandoned", with(claiming(), &[Abandon]), Ended(Release::Expired)),
            // Holding
            ("heartbeat acknowledged", with(renewing(), &[Applied(H + 10)]), Holding),
            ("heartbeat unanswered", with(renewing(), &[Unknown(H + 2_000)]), Holding),
            ("heartbeat refused by its own version", with(renewing(), &[Refused(H + 5, record("b"))]), Holding),
            ("heartbeat refused, base stands", with(renewing(), &[Refused(H + 5, record("a"))]), Holding),
            ("taken over", with(renewing(), &[Refused(H + 5, record("x"))]), Lost(Loss::TakenOver)),
            (
                "an earlier term is back",
                with(renewing(), &[Refused(H + 5, Seen::Record(Sighting { token: Some(1), ..sighting("x") }))]),
                Lost(Loss::TokenRegressed),
            ),
            (
                "another client's number proves nothing",
                with(
                    renewing(),
                    &[Refused(
                        H + 5,
                        Seen::Record(Sighting { token: Some(1), writer: Writer::Foreign, ..sighting("x") }),
                    )],
                ),
                Lost(Loss::TakenOver),
            ),
            ("record gone", with(renewing(), &[Refused(H + 5, Seen::Absent)]), Lost(Loss::RecordGone)),
            ("record damaged", with(renewing(), &[Refused(H + 5, Seen::Malformed)]), Lost(Loss::RecordGone)),
            (
                "base released by another",
                with(renewing(), &[Refused(H + 5, released("a"))]),
                Lost(Loss::ReleasedByAnother),
            ),
            (
                "attempt released by another",
                with(renewing(), &[Refused(H + 5, released("b"))]),
                Lost(Loss::ReleasedByAnother),
            ),
            ("a nanosecond before the deadline", with(holding(), &[Expire(V - 1)]), Holding),
            ("at the deadline", lost(), Lost(Loss::Deadline)),
            ("acknowledged after the deadline", with(renewing(), &[Applied(V)]), Lost(Loss::Deadline)),
            ("resigned", draining(), Draining),
            ("work ended by itself", with(holding(), &[WorkEnded(100)]), Releasing),
            ("abandoned", with(holding(), &[Abandon]), Ended(Release::Expired)),
            // Draining
            ("drained work ends", with(draining(), &[WorkEnded(100)]), Releasing),
            ("the deadline comes while draining", with(draining(), &[Expire(V)]), Lost(Loss::Deadline)),
            ("renewed while draining", with(draining(), &[Send(H, "b"), Applied(H + 1), Expire(V)]), Draining),
            (
                "taken over while draining",
                with(draining(), &[Send(H, "b"), Refused(H, record("x"))]),
                Lost(Loss::TakenOver),
            ),
            ("resigned twice", with(draining(), &[Resign]), Draining),
            // Lost
            ("nothing revives: resign", with(lost(), &[Resign]), Lost(Loss::Deadline)),
            ("nothing revives: beat", with(lost(), &[Beat(V + 1)]), Lost(Loss::Deadline)),
            (
                "nothing revives: own version",
                with(renewing(), &[Expire(V), Refused(V, record("b"))]),
                Lost(Loss::Deadline),
            ),
            ("nothing revives: applied", with(renewing(), &[Expire(V), Applied(V + 1)]), Lost(Loss::Deadline)),
            (
                "lost by deadline, then taken over",
                with(renewing(), &[Expire(V), Refused(V, record("x"))]),
                Lost(Loss::Deadline),
            ),
            ("work ends after the deadline: release is tried", with(lost(), &[WorkEnded(V + 50)]), Releasing),
            (
                "work ends after a take-over: nothing to release",
                with(renewing(), &[Refused(H, record("x")), WorkEnded(H + 50)]),
                Ended(Release::AlreadyGone),
            ),
            (
                "work ends after the record went: nothing to release",
                with(renewing(), &[Refused(H, Seen::Absent), WorkEnded(H + 50)]),
                Ended(Release::AlreadyGone),
            ),
            (
                "work ends after another's release: nothing to release",
                with(renewing(), &[Refused(H, released("a")), WorkEnded(H + 50)]),
                Ended(Release::AlreadyGone),
            ),
            ("work that does not end", with(lost(), &[Abandon]), Ended(Release::Expired)),
            // Releasing
            ("release confirmed", with(releasing(), &[Applied(110)]), Ended(Release::Released)),
            ("release unanswered", with(releasing(), &[Unknown(2_100)]), Releasing),
            (
                "release was applied, reply lost",
                with(releasing(), &[Unknown(200), Send(300, "s"), Refused(310, released("r"))]),
                Ended(Release::Released),
            ),
            (
                "somebody else's before the release",
                with(releasing(), &[Refused(110, record("x"))]),
                Ended(Release::AlreadyGone),
            ),
            ("gone before the release", with(releasing(), &[Refused(110, Seen::Absent)]), Ended(Release::AlreadyGone)),
            (
                "released by another before the release",
                with(releasing(), &[Refused(110, released("a"))]),
                Ended(Release::AlreadyGone),
            ),
            ("still ours: release again", with(releasing(), &[Refused(110, record("a"))]), Releasing),
            ("an answer nobody waits for", with(holding(), &[Resign, WorkEnded(100), Applied(110)]), Releasing),
            // Ended
            (
                "ended stays ended",
                with(releasing(), &[Applied(110), WorkEnded(120), Resign, Abandon, Expire(V)]),
                Ended(Release::Released),
            ),
            (
                "refused stays refused",
                with(claiming(), &[Refused(1, record("x")), WorkEnded(5), Abandon]),
                Phase::Refused,
            ),
        ];
        for (name, script, expected) in table {
            assert_eq!(after(&script).phase(), expected, "{name}");
        }
    }

    /// R1: the deadline is the send plus the validity, of the smallest write that may be applied.
    #[test]
    fn deadlines_count_from_the_send() {
        let table: Vec<(&str, Vec<In>, Option<u64>)> = vec![
            ("before the claim is acknowledged", vec![Send(0, "a")], None),
            ("claim", vec![Send(0, "a"), Applied(900)], Some(V)),
            ("claim adopted", vec![Send(0, "a"), Unknown(900), Send(950, "b"), Refused(960, record("a"))], Some(V)),
            ("second claim applied", vec![Send(0, "a"), Unknown(900), Send(950, "b"), Applied(960)], Some(950 + V)),
            ("heartbeat", with(holding(), &[Send(H, "b"), Applied(H + 900)]), Some(H + V)),
            ("heartbeat unknown", with(holding(), &[Send(H, "b"), Unknown(H + 900)]), Some(V)),
            ("resigned: last writes may go on", with(holding(), &[Resign]), Some(V)),
            ("lost", with(holding(), &[Expire(V)]), None),
            ("releasing", with(holding(), &[WorkEnded(5)]), None),
        ];
        for (name, script, expected) in table {
            assert_eq!(after(&script).held_until(), expected.map(at), "{name}");
        }
        assert_eq!(after(&holding()).hard_deadline(), Some(at(9_500)), "work may drain until the hard limit");
    }

    /// The schedule: absolute beats, short pauses after a miss, nothing while a request is under way (R11).
    #[test]
    fn steps_follow_the_schedule() {
        let table: Vec<(&str, Vec<In>, u64, Step)> = vec![
            ("a claim is sent at once", vec![], 0, Step::Send),
            ("one request at most, no deadline yet", vec![Send(0, "a")], 100, Step::Idle),
            ("the next beat is an absolute one", vec![Send(0, "a"), Applied(900)], 901, Step::Wait(at(H))),
            ("a late beat is sent at once", holding(), H + 700, Step::Send),
            (
                "a late beat does not move the next",
                with(holding(), &[Send(H + 700, "b"), Applied(H + 710)]),
                H + 711,
                Step::Wait(at(2 * H)),
            ),
            ("under way: only the deadline counts", with(holding(), &[Send(H, "b")]), H + 1, Step::Wait(at(V))),
            (
                "a miss is retried soon",
                with(holding(), &[Send(H, "b"), Unknown(H + 100)]),
                H + 101,
                Step::Wait(at(H + 150)),
            ),
            ("wanted now", with(holding(), &[Beat(100)]), 100, Step::Send),
            ("after the deadline nothing", with(holding(), &[Expire(V)]), V, Step::Idle),
            ("the deadline is found by asking", holding(), V, Step::Idle),
            (
                "a release is tried even when the lease is long over",
                with(holding(), &[Expire(V), WorkEnded(3 * L)]),
                3 * L,
                Step::Send,
            ),
        ];
        for (name, script, time, expected) in table {
            assert_eq!(after(&script).poll(at(time)), expected, "{name}");
        }
    }

    #[test]
    fn a_release_is_given_up_when_the_lease_is_over() {
        let mut holder = after(&with(holding(), &[WorkEnded(100), Send(100, "r"), Unknown(2_100)]));
        assert_eq!(holder.poll(at(L - 1)), Step::Send, "retried until the lease is over");
        assert_eq!(holder.poll(at(L)), Step::Idle);
        assert_eq!(holder.phase(), Phase::Ended(Release::Unknown));
    }

    /// R3: what each write names.
    #[test]
    fn conditions_name_what_may_be_current() {
        let mut holder = Holder::claim(None, 1, terms(), at(0));
        let claim = holder.begin(SentAt(at(0)), version("a"));
        assert!(claim.or_absent && claim.kind == WriteKind::Claim { token: 1 });
        assert_eq!(*claim.names, [version("a")], "a creation names itself: repeating it is harmless");
        holder.on_reply(&Reply::Unknown, at(100), 0.0);
        let again = holder.begin(SentAt(at(200)), version("b"));
        assert_eq!(*again.names, [version("a"), version("b")]);
        holder.on_reply(&Reply::Applied, at(210), 0.0);
        let beat = holder.begin(SentAt(at(H)), version("c"));
        assert_eq!(*beat.names, [version("b"), version("c")], "what can't be applied any more is not named");
        assert!(!beat.or_absent);
        holder.on_reply(&Reply::Unknown, at(H + 1), 0.0);
        holder.work_ended(at(H + 2));
        let release = holder.begin(SentAt(at(H + 2)), version("r"));
        assert_eq!((release.kind, release.or_absent), (WriteKind::Release, false), "a release creates nothing");
        assert_eq!(*release.names, [version("b"), version("c"), version("r")]);
    }

    #[test]
    fn after_three_unknown_writes_one_read_settles() {
        let unknown = |n: u64, name| vec![Send(H + n * 700, name), Unknown(H + n * 700 + 10)];
        let script: Vec<In> =
            [holding(), unknown(0, "b"), unknown(1, "c"), unknown(2, "d")].into_iter().flatten().collect();
        assert_eq!(after(&script).poll(at(H + 2_800)), Step::Read, "four names at most");
        for (name, seen, phase, held) in [
            ("the base stands", Some(record("a")), Phase::Holding, Some(V)),
            ("the second of them is current", Some(record("c")), Phase::Holding, Some(H + 700 + V)),
            ("somebody else is", Some(record("x")), Phase::Lost(Loss::TakenOver), None),
            ("nothing is", Some(Seen::Absent), Phase::Lost(Loss::RecordGone), None),
            ("the read failed", None, Phase::Holding, Some(V)),
        ] {
            let holder = after(&with(script.clone(), &[Read(H + 2_800, seen)]));
            assert_eq!((holder.phase(), holder.held_until()), (phase, held.map(at)), "{name}");
        }
        // The memory outlasts the condition: a write that is left out and is applied late is still known.
        let late =
            with(script, &[Read(H + 2_800, Some(record("a"))), Send(H + 2_900, "e"), Refused(H + 2_950, record("b"))]);
        assert_eq!(after(&late).phase(), Phase::Holding);
        assert_eq!(after(&late).held_until(), Some(at(H + V)));
    }

    #[test]
    fn claims_settle_by_a_read_too() {
        let script: Vec<In> = (0..3_u64)
            .flat_map(|n| {
                [
                    Send(
                        n * 700,
                        if n == 0 {
                            "a"
                        } else if n == 1 {
                            "b"
                        } else {
                            "c"
                        },
                    ),
                    Unknown(n * 700 + 10),
                ]
            })
            .collect();
        for (name, seen, phase) in [
            ("the base stands: claim on", record("old"), Phase::Claiming),
            ("one of them was applied", record("b"), Phase::Holding),
            ("somebody else was faster", record("x"), Phase::Refused),
        ] {
            assert_eq!(after(&with(script.clone(), &[Read(2_800, Some(seen))])).phase(), phase, "{name}");
        }
        let mut creation = Holder::claim(None, 1, terms(), at(0));
        for (n, name) in [(0_u64, "a"), (1, "b"), (2, "c"), (3, "d")] {
            if creation.poll(at(n * 700)) == Step::Read {
                creation.begin_read();
                creation.on_read(Some(&Seen::Absent), at(n * 700), 0.0);
            }
            feed(&mut creation, &Send(n * 700, name));
            feed(&mut creation, &Unknown(n * 700 + 10));
        }
        assert_eq!(creation.phase(), Phase::Claiming, "absent: create it again");
    }

    /// R1: more counts once it is acknowledged, less from the send on, whatever became of it.
    #[test]
    fn a_changed_lease_lowers_at_the_send_and_raises_at_the_reply() {
        let scaled = |percent: u64| {
            let of = |millis: u64| ms(millis * percent / 100);
            Terms { lease: of(L), validity: of(V), hard_limit: of(9_500), ..terms() }
        };
        let renewed = |terms: Terms, more: &[In]| {
            let mut holder = after(&holding());
            holder.set_terms(terms);
            more.iter().for_each(|input| feed(&mut holder, input));
            holder
        };
        let (longer, shorter) = (scaled(200), scaled(50));
        let table: Vec<(&str, Terms, Vec<In>, u64)> = vec![
            ("nothing is sent yet", shorter, vec![], V),
            ("longer, sent", longer, vec![Send(H, "b")], V),
            ("longer, unanswered", longer, vec![Send(H, "b"), Unknown(H + 900)], V),
            ("longer, acknowledged", longer, vec![Send(H, "b"), Applied(H + 10)], H + 2 * V),
            ("shorter, sent", shorter, vec![Send(H, "b")], H + V / 2),
            ("shorter, unanswered", shorter, vec![Send(H, "b"), Unknown(H + 900)], H + V / 2),
            (
                "shorter, refused, the older one stands",
                shorter,
                vec![Send(H, "b"), Refused(H + 5, record("a"))],
                H + V / 2,
            ),
            ("shorter, acknowledged", shorter, vec![Send(H, "b"), Applied(H + 10)], H + V / 2),
        ];
        for (name, terms, script, until) in table {
            let holder = renewed(terms, &script);
            assert_eq!(holder.held_until(), Some(at(until)), "{name}");
            assert!(holder.hard_deadline() >= Some(at(until)), "{name}");
        }
        // The longer one is settled while a shorter one, sent after it, may still be applied.
        let mut holder = renewed(longer, &[Send(H, "b"), Unknown(H + 10)]);
        holder.set_terms(shorter);
        for input in [Send(H + 100, "c"), Unknown(H + 110), Send(H + 300, "d"), Refused(H + 310, record("b"))] {
            feed(&mut holder, &input);
        }
        assert_eq!(holder.held_until(), Some(at(H + 100 + V / 2)), "the least that may stand");
        feed(&mut holder, &Beat(H + 311));
        feed(&mut holder, &Send(H + 311, "e"));
        feed(&mut holder, &Applied(H + 320));
        assert_eq!(holder.held_until(), Some(at(H + 311 + V / 2)), "nothing older can be applied any more");
    }

    /// Heartbeats that are off are sent when they are asked for, once, and at no other time.
    #[test]
    fn heartbeats_on_demand_wait_to_be_asked_for() {
        let terms = Terms { renewal: Renewal::OnDemand, ..terms() };
        let mut holder = Holder::claim(Some(version("old")), 3, terms, at(0));
        for input in [Send(0, "a"), Applied(10)] {
            feed(&mut holder, &input);
        }
        assert_eq!(holder.poll(at(H)), Step::Wait(at(V)), "only its deadline comes by itself");
        for input in [Beat(H), Send(H, "b"), Unknown(H + 10)] {
            feed(&mut holder, &input);
        }
        assert_eq!(holder.poll(at(H + 5_000)), Step::Wait(at(V)), "a miss is not tried again unasked");
        for input in [Beat(H + 5_000), Send(H + 5_000, "c"), Applied(H + 5_010)] {
            feed(&mut holder, &input);
        }
        assert_eq!(holder.held_until(), Some(at(H + 5_000 + V)));
        feed(&mut holder, &WorkEnded(H + 5_100));
        feed(&mut holder, &Send(H + 5_100, "r"));
        feed(&mut holder, &Unknown(H + 5_110));
        assert_eq!(holder.poll(at(H + 5_110)), Step::Wait(at(H + 5_160)), "a release is tried again all the same");
    }

    /// What a shutdown could not release is released by the next one, whatever the time.
    #[test]
    fn a_release_that_was_given_up_is_tried_again_when_asked() {
        let given_up = || {
            let mut holder = after(&with(holding(), &[WorkEnded(100), Send(100, "r"), Unknown(2_100)]));
            assert_eq!(holder.poll(at(L)), Step::Idle);
            holder
        };
        let mut holder = given_up();
        holder.release_again(at(5 * L));
        for input in [Send(5 * L, "s"), Applied(5 * L + 10)] {
            feed(&mut holder, &input);
        }
        assert_eq!(holder.phase(), Phase::Ended(Release::Released));
        let mut holder = given_up();
        holder.release_again(at(5 * L));
        feed(&mut holder, &Send(5 * L, "s"));
        feed(&mut holder, &Refused(5 * L + 10, record("x")));
        assert_eq!(holder.phase(), Phase::Ended(Release::AlreadyGone), "somebody else's by now");
        let mut holder = after(&with(holding(), &[Abandon]));
        holder.release_again(at(L));
        assert_eq!(holder.phase(), Phase::Ended(Release::Expired), "work still runs: never released");
    }

    /// Locks acquired in the same moment spread their beats over half a period.
    #[test]
    fn first_beats_are_spread() {
        for (spread, first) in [(0.0, H), (0.5, H - H / 4), (1.0, H / 2)] {
            let mut holder = Holder::claim(None, 1, terms(), at(L));
            feed(&mut holder, &Send(L, "a"));
            holder.on_reply(&Reply::Applied, at(L + 10), spread);
            assert_eq!(holder.poll(at(L + 11)), Step::Wait(at(L + first)), "{spread}");
            feed(&mut holder, &Send(L + first, "b"));
            holder.on_reply(&Reply::Applied, at(L + first + 10), spread);
            assert_eq!(holder.poll(at(L + first + 11)), Step::Wait(at(L + first + H)), "from then on a period apart");
        }
    }

    #[test]
    fn misses_count_and_are_forgiven() {
        let missed = with(holding(), &[Send(H, "b"), Unknown(H + 10)]);
        assert_eq!(after(&missed).misses(), 1);
        assert_eq!(after(&with(missed, &[Send(H + 100, "c"), Applied(H + 110)])).misses(), 0);
    }
}

mod follower {
    use super::*;

    /// What was seen, at which milliseconds.
    type History = Vec<(u64, Seen)>;

    pub(super) fn observation(seen: &[(u64, Seen)]) -> Observation {
        let mut known = Observation::default();
        for (time, seen) in seen {
            observe(&mut known, *time, seen.clone(), Consistency::Strong);
        }
        known
    }

    /// Sent 10 ms before it was answered.
    pub(super) fn observe(known: &mut Observation, time: u64, seen: Seen, by: Consistency) -> Noted {
        known.observe(seen, SentAt(at(time - 10)), ReceivedAt(at(time)), by)
    }

    fn verdict(known: &Observation, time: u64) -> Verdict {
        known.verdict(at(time), Absence::WaitsOutLease, ms(1_000))
    }

    fn of(writer: Writer) -> Seen {
        Seen::Record(Sighting { writer, ..sighting("x") })
    }

    #[test]
    fn verdicts() {
        let free = |name| Verdict::Free { base: Some(version(name)) };
        let held = |time| Verdict::HeldUntil(at(time));
        let table: Vec<(&str, History, u64, Verdict)> = vec![
            ("never read", vec![], 99, Verdict::Unknown),
            ("absent from the start", vec![(100, Seen::Absent)], 100, Verdict::Free { base: None }),
            ("held", vec![(100, record("x"))], 101, held(100 + L)),
            ("a nanosecond short of its lease", vec![(100, record("x"))], 99 + L, held(100 + L)),
            ("unchanged for its lease", vec![(100, record("x"))], 100 + L, free("x")),
            (
                "unchanged, read again: the timer runs on",
                vec![(100, record("x")), (9_000, record("x"))],
                9_001,
                held(100 + L),
            ),
            ("renewed: the timer starts anew", vec![(100, record("x")), (9_000, record("y"))], 9_001, held(9_000 + L)),
            ("released", vec![(100, released("x"))], 100, free("x")),
            ("released later, version unchanged", vec![(100, record("x")), (200, released("x"))], 200, free("x")),
            ("acquired again, version unchanged", vec![(100, released("x")), (200, record("x"))], 200, held(100 + L)),
            ("foreign: a quarter more", vec![(100, of(Writer::Foreign))], 100 + L, held(100 + L + L / 4)),
            ("foreign: a quarter more is enough", vec![(100, of(Writer::Foreign))], 100 + L + L / 4, free("x")),
            (
                "newer format, however old",
                vec![(100, of(Writer::Newer))],
                100 * L,
                Verdict::Blocked(Obstacle::NewerFormat),
            ),
            ("malformed, however old", vec![(100, Seen::Malformed)], 100 * L, Verdict::Blocked(Obstacle::Malformed)),
            ("mended", vec![(100, Seen::Malformed), (200, released("x"))], 200, free("x")),
            (
                "vanished while held: its lease is waited out",
                vec![(100, record("x")), (200, Seen::Absent)],
                300,
                held(100 + L),
            ),
            (
                "vanished while held, waited out",
                vec![(100, record("x")), (200, Seen::Absent)],
                100 + L,
                Verdict::Free { base: None },
            ),
            (
                "vanished while a client of another make held it: that is how it releases",
                vec![(100, of(Writer::Foreign)), (200, Seen::Absent)],
                200,
                Verdict::Free { base: None },
            ),
            (
                "damaged while held, then deleted: its lease is waited out",
                vec![(100, record("x")), (150, Seen::Malformed), (200, Seen::Absent)],
                300,
                held(100 + L),
            ),
            (
                "vanished after a release",
                vec![(100, released("x")), (200, Seen::Absent)],
                200,
                Verdict::Free { base: None },
            ),
        ];
        for (name, seen, time, expected) in table {
            assert_eq!(verdict(&observation(&seen), time), expected, "{name}");
        }
        let gone = observation(&[(100, record("x")), (200, Seen::Absent)]);
        let deleted = gone.verdict(at(200), Absence::Free, ms(1_000));
        assert_eq!(deleted, Verdict::Free { base: None }, "where records are deleted on release, absent is free");
    }

    #[test]
    fn answers_from_the_past_change_nothing() {
        use Consistency::{Eventual, Strong};
        let old = |name, token| Seen::Record(Sighting { token: Some(token), ..sighting(name) });
        let table: Vec<(&str, Seen, Consistency, Noted)> = vec![
            ("the version before", old("a", 3), Eventual, Noted::Stale),
            ("absent, but it was there", Seen::Absent, Eventual, Noted::Stale),
            ("an unknown version with a lower token", old("c", 2), Eventual, Noted::Stale),
            ("the same", old("b", 4), Eventual, Noted::Same),
            ("the next", old("c", 4), Eventual, Noted::Changed),
            ("absent, confirmed", Seen::Absent, Strong, Noted::Changed),
            ("a lower token, confirmed", old("c", 2), Strong, Noted::TokenRegressed { floor: 4, found: 2 }),
            ("the version before, confirmed: restored", old("a", 4), Strong, Noted::Changed),
        ];
        for (name, seen, by, expected) in table {
            let mut known = observation(&[(100, old("a", 3)), (200, old("b", 4))]);
            assert_eq!(observe(&mut known, 300, seen.clone(), by), expected, "{name}");
            if expected == Noted::Stale {
                assert_eq!(verdict(&known, 400), Verdict::HeldUntil(at(200 + L)), "{name}: the timer runs on");
                let next = Candidate::new(ms(1_000), ms(L), Absence::WaitsOutLease, false).next(&known, at(400));
                assert_eq!(next, Next::Read(Strong), "{name}: doubt is settled by one strong read");
            }
        }
        let mut known = observation(&[(100, record("a")), (200, record("b"))]);
        let early = known.observe(record("a"), SentAt(at(150)), ReceivedAt(at(300)), Strong);
        assert_eq!(early, Noted::Stale, "a strong answer is as old as its request");
    }

    /// R6.
    #[test]
    fn tokens_rise_above_everything_seen() {
        assert_eq!(Observation::default().next_token(), 1);
        assert_eq!(observation(&[(100, record("x"))]).next_token(), 5);
        let restored = Seen::Record(Sighting { token: Some(2), ..sighting("y") });
        assert_eq!(observation(&[(100, record("x")), (200, restored)]).next_token(), 5, "healed, not followed");
        assert_eq!(observation(&[(100, record("x")), (200, Seen::Absent)]).next_token(), 5, "remembered");
        assert_eq!(
            observation(&[(100, of(Writer::Foreign))]).next_token(),
            5,
            "a client that kept it is no reason to fall"
        );
        let forged = Seen::Record(Sighting { token: Some(2), writer: Writer::Foreign, ..sighting("y") });
        let mut known = observation(&[(100, record("x"))]);
        assert_eq!(observe(&mut known, 200, forged, Consistency::Eventual), Noted::Changed, "and none to doubt");
        assert_eq!(known.next_token(), 5);
        let highest = Seen::Record(Sighting { token: Some(u64::MAX), ..sighting("y") });
        assert_eq!(observation(&[(100, highest)]).next_token(), u64::MAX, "no overflow");
    }

    /// R6: a token is handed out only over a record that this crate wrote last, with a number in it, or over none.
    #[test]
    fn only_our_own_record_with_a_number_vouches_for_the_next() {
        let without = Seen::Record(Sighting { token: None, ..sighting("x") });
        let base = version("x");
        for (name, seen, expected) in [
            ("ours", record("x"), true),
            ("ours, released", released("x"), true),
            ("ours, without a number", without, false),
            ("another client's", of(Writer::Foreign), false),
            ("a newer format", of(Writer::Newer), false),
            ("another version", record("y"), false),
            ("gone", Seen::Absent, false),
            ("damaged", Seen::Malformed, false),
        ] {
            let known = observation(&[(100, seen)]);
            assert_eq!(known.vouches_for(Some(&base)), expected, "{name}");
            assert!(known.vouches_for(None), "{name}: a new record begins a new count");
        }
    }

    #[test]
    fn a_restrained_candidate_lets_others_go_first() {
        let (poll, claim) = (1_000, Next::Claim { base: Some(version("x")), token: 5 });
        let candidate = |restraint| {
            let candidate = Candidate::new(ms(poll), ms(L), Absence::WaitsOutLease, false);
            candidate.restrained(restraint)
        };
        let held = || observation(&[(100, record("x"))]);
        let free = observation(&[(100, released("x"))]);
        let read = Next::Read(Consistency::Eventual);
        // Counted from when this campaign first saw it free, and looked at meanwhile.
        let mut delayed = candidate(Restraint { delay: ms(2_500), ..Restraint::default() });
        assert_eq!(delayed.next(&free, at(200)), read);
        delayed.answered(&free, SentAt(at(210)), at(210));
        assert_eq!(delayed.next(&free, at(300)), Next::Wait(at(210 + poll)));
        assert_eq!(delayed.next(&free, at(210 + poll)), read);
        delayed.answered(&free, SentAt(at(2_300)), at(2_300));
        assert_eq!(delayed.next(&free, at(2_300)), Next::Wait(at(200 + 2_500)), "by its own timer");
        assert_eq!(delayed.next(&free, at(200 + 2_500)), claim);
        // Somebody came: the count starts anew when it is free again.
        assert!(!matches!(delayed.next(&held(), at(3_000)), Next::Claim { .. }));
        assert_ne!(delayed.next(&held(), at(100 + L)), claim, "an expired record is free from here on");
        assert_eq!(delayed.next(&held(), at(100 + L + 2_500)), claim);
        // A pause is a moment, whatever is seen meanwhile; courtesy ends with the first holder that is seen.
        let mut later = candidate(Restraint { not_before: at(5_000), ..Restraint::default() });
        later.answered(&free, SentAt(at(4_500)), at(4_500));
        assert_eq!(later.next(&free, at(4_600)), Next::Wait(at(5_000)));
        assert_eq!(later.next(&free, at(5_000)), claim);
        let courteous = || candidate(Restraint { courteous_until: at(L), ..Restraint::default() });
        let mut alone = courteous();
        assert_eq!(alone.next(&free, at(200)), read);
        assert_eq!(alone.next(&free, at(L)), claim, "nobody came, however long this campaign has looked");
        assert_eq!(courteous().next(&free, at(L)), claim, "nor does another campaign begin to wait anew");
        let mut courteous = courteous();
        assert_eq!(courteous.next(&free, at(200)), read);
        courteous.next(&held(), at(300));
        assert_eq!(courteous.next(&free, at(400)), claim, "somebody has held it");
        // Paused, it looks on and claims nothing.
        let mut paused = candidate(Restraint::default());
        paused.set_paused(true);
        assert_eq!(paused.next(&free, at(200)), read);
        paused.answered(&free, SentAt(at(200)), at(200));
        assert_eq!(paused.next(&free, at(300)), Next::Wait(at(200 + poll)));
        paused.set_paused(false);
        assert_eq!(paused.next(&free, at(300)), claim);
        // Where records are deleted, creating first is a claim too.
        let creating = || Candidate::new(ms(poll), ms(L), Absence::Free, true);
        let mut delayed = creating().restrained(Restraint { delay: ms(10), ..Restraint::default() });
        assert_eq!(delayed.next(&Observation::default(), at(0)), read);
    }

    #[test]
    fn candidates_read_wait_and_claim_when_they_should() {
        let poll = 1_000;
        let candidate = || Candidate::new(ms(poll), ms(L), Absence::WaitsOutLease, false);
        let held = || observation(&[(100, record("x"))]);
        let claim = |name: &str| Next::Claim { base: Some(version(name)), token: 5 };
        // First contact.
        let unknown = Observation::default();
        assert_eq!(candidate().next(&unknown, at(0)), Next::Read(Consistency::Eventual));
        let mut creating = Candidate::new(ms(poll), ms(L), Absence::Free, true);
        assert_eq!(creating.next(&unknown, at(0)), Next::Claim { base: None, token: 1 }, "creates first");
        // Polls, and a take-over by its own timer.
        let mut polled = candidate();
        polled.answered(&held(), SentAt(at(100)), at(100));
        assert_eq!(polled.next(&held(), at(200)), Next::Wait(at(100 + poll)));
        assert_eq!(polled.next(&held(), at(100 + poll)), Next::Read(Consistency::Eventual));
        polled.answered(&held(), SentAt(at(L - 200)), at(L - 200));
        assert_eq!(polled.next(&held(), at(L - 100)), Next::Wait(at(100 + L)), "not at the next poll");
        assert_eq!(polled.next(&held(), at(100 + L)), claim("x"));
        // Refused by something new: at once again; by nothing new: after a poll.
        let free = observation(&[(100, released("x"))]);
        let mut refused = candidate();
        refused.refused(Noted::Changed, at(500));
        assert_eq!(refused.next(&free, at(500)), claim("x"));
        refused.refused(Noted::Same, at(500));
        assert_eq!(refused.next(&free, at(500)), Next::Wait(at(500 + poll)), "no tight loop");
        assert_eq!(refused.next(&free, at(500 + poll)), Next::Read(Consistency::Eventual), "it is looked at first");
        refused.answered(&free, SentAt(at(510 + poll)), at(510 + poll));
        assert_eq!(refused.next(&free, at(510 + poll)), claim("x"));
        // Failures back off: P/8, doubled, up to P, and ten times that where only a human helps.
        let mut failed = candidate();
        for expected in [250, 500, 1_000, 1_000] {
            failed.failed(true, at(0), 1.0);
            assert_eq!(failed.next(&unknown, at(0)), Next::Wait(at(expected)));
            assert_eq!(failed.next(&free, at(0)), Next::Wait(at(expected)), "even when it is free");
            assert_eq!(failed.next(&free, at(expected)), Next::Read(Consistency::Eventual), "and a read tells more");
        }
        for _ in 0..10 {
            failed.failed(false, at(0), 1.0);
        }
        assert_eq!(failed.next(&unknown, at(0)), Next::Wait(at(10 * poll)));
        failed.answered(&free, SentAt(at(0)), at(0));
        assert_eq!(failed.next(&free, at(0)), claim("x"), "forgiven");
        // What is never taken over is looked at rarely.
        let blocked = observation(&[(100, Seen::Malformed)]);
        let mut slow = candidate();
        slow.answered(&blocked, SentAt(at(100)), at(100));
        assert_eq!(slow.next(&blocked, at(200)), Next::Wait(at(100 + 10 * poll)));
        assert_eq!(slow.next(&blocked, at(100 + 10 * poll)), Next::Read(Consistency::Eventual));
    }
}
