//! Services in the background: their callbacks, how they stop, what they leave behind.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynamo_elector::{
    Elector, Embedded, EndReason, ErrorKind, Fault, Faults, Leadership, LockClient, ReleaseOutcome, Role, Service,
    StopReason, TermEnded, WorkResult,
};
use tokio::time::Instant;

use crate::client;
use crate::support::{Idle, Lines, kind, sleep, within};

#[derive(Clone, Default)]
struct Book(Arc<Mutex<Vec<String>>>);

impl Book {
    fn note(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|known| known.starts_with(line)).count()
    }
}

/// What happens in the terms, one after the other; the last one repeats.
#[derive(Clone, Copy)]
enum Term {
    Returns,
    Fails,
    Panics,
    Hangs,
}

struct Scripted {
    book: Book,
    terms: Vec<Term>,
    /// Counts who is inside of a callback.
    inside: Arc<AtomicU32>,
}

impl Scripted {
    fn new(terms: &[Term]) -> (Self, Book) {
        let book = Book::default();
        (Self { book: book.clone(), terms: terms.to_vec(), inside: Arc::default() }, book)
    }
}

impl Service for Scripted {
    async fn on_elected(&mut self, leadership: Leadership) -> WorkResult {
        assert_eq!(self.inside.fetch_add(1, Ordering::SeqCst), 0, "one callback at a time");
        self.book.note(format!("elected {}", leadership.fencing_token()));
        let term = if self.terms.len() > 1 { self.terms.remove(0) } else { self.terms[0] };
        sleep(200).await;
        self.inside.fetch_sub(1, Ordering::SeqCst);
        match term {
            Term::Returns => Ok(()),
            Term::Fails => Err("broken".into()),
            Term::Panics => panic!("broken for good"),
            Term::Hangs => std::future::pending().await,
        }
    }

    async fn on_demoted(&mut self, term: TermEnded) {
        assert_eq!(self.inside.fetch_add(1, Ordering::SeqCst), 0, "one callback at a time");
        self.book.note(format!("demoted {} {} {}", term.fencing_token, term.reason, term.outcome.as_str()));
        sleep(100).await;
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn locks(seed: u64) -> (Embedded, Faults, LockClient) {
    let engine = Embedded::in_memory().unwrap();
    let faults = Faults::none();
    let locks = client(&engine, &faults, seed).await;
    (engine, faults, locks)
}

#[tokio::test(start_paused = true)]
async fn callbacks_come_in_pairs_and_in_order_whatever_they_do() {
    let (_engine, _, locks) = locks(1).await;
    let elector = Elector::builder(&locks, "e").build().unwrap();
    let (service, book) = Scripted::new(&[Term::Fails, Term::Panics, Term::Hangs, Term::Returns]);
    let running = elector.start(service).unwrap();
    while book.count("elected") < 3 {
        sleep(50).await;
    }
    elector.hand_over().await.unwrap();
    while book.count("elected") < 4 {
        sleep(50).await;
    }
    sleep(1_000).await;
    running.shutdown().await.unwrap();
    let expected = [
        "elected 1",
        "demoted 1 work_failed released",
        "elected 2",
        "demoted 2 work_failed released",
        "elected 3",
        "demoted 3 handed_over released",
        "elected 4",
        "demoted 4 shut_down released",
    ];
    assert_eq!(book.lines(), expected);
}

/// A short warm-up must not rotate leaders for ever.
#[tokio::test(start_paused = true)]
async fn the_return_of_on_elected_does_not_end_the_term() {
    let (engine, _, locks) = locks(1).await;
    let elector = Elector::builder(&locks, "e").build().unwrap();
    let (service, book) = Scripted::new(&[Term::Returns]);
    let running = elector.start(service).unwrap();
    elector.until_leading().await.unwrap();
    for _ in 0..100 {
        sleep(1_000).await;
        assert!(elector.status().borrow().is_leader());
        assert!(elector.leadership().unwrap().is_valid(), "request handlers can act on it");
    }
    assert_eq!(book.lines(), ["elected 1"]);
    let other = client(&engine, &Faults::none(), 2).await;
    assert!(other.try_acquire("e").await.unwrap().is_none());
    running.shutdown().await.unwrap();
    assert!(elector.leadership().is_none());
}

#[tokio::test(start_paused = true)]
async fn pauses_after_failing_work_double_up_to_a_limit_and_start_anew_after_success() {
    let (_engine, _, locks) = locks(1).await;
    let starts = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&starts);
    let elector = Elector::builder(&locks, "e").build().unwrap();
    let work = elector.run(async move |_| {
        noted.lock().unwrap().push(Instant::now());
        let round = noted.lock().unwrap().len();
        if round == 9 { Ok(()) } else { Err("broken".into()) }
    });
    assert!(tokio::time::timeout(Duration::from_secs(1_200), work).await.is_err(), "for ever");
    let starts = starts.lock().unwrap();
    let gaps: Vec<f64> = starts.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    // P is a second: one to two of them, doubled each time, at most 64 of them, and never less than each of the others looks in.
    for (failures, gap) in [2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 64.0, 64.0].into_iter().zip(&gaps) {
        let least = f64::max(failures, 2.5);
        assert!((least..least * 2.0 + 0.5).contains(gap), "{failures}: {gaps:?}");
    }
    assert!((2.5..5.5).contains(&gaps[8]), "after success: {gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn work_can_stop_the_elector_for_good() {
    let (_engine, _, locks) = locks(1).await;
    let elector = Elector::builder(&locks, "e").stop_after_success().stop_after_failure().build().unwrap();
    elector.run(async |_| Ok(())).await.unwrap();
    assert_eq!(elector.status().borrow().role, Role::Stopped(StopReason::WorkEnded));
    assert_eq!(within(1, elector.until_stopped()).await, StopReason::WorkEnded);
    within(1, elector.run(async |_| unreachable!("stopped for good"))).await.unwrap();
    assert_eq!(kind(elector.campaign().await), ErrorKind::Closed);

    let elector = Elector::builder(&locks, "f").stop_after_failure().build().unwrap();
    let error = elector.run(async |_| Err("broken".into())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WorkFailed);
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), "broken", "the work's own error");
    assert_eq!(within(1, elector.until_stopped()).await, StopReason::WorkFailed);
    assert!(locks.get("f").await.unwrap().unwrap().is_released());

    let elector = Elector::builder(&locks, "g").stop_after_failure().build().unwrap();
    let (service, book) = Scripted::new(&[Term::Panics]);
    let error = within(10_000, elector.start(service).unwrap().join()).await.unwrap_err();
    assert!(error.to_string().contains("broken for good"), "{error}");
    assert_eq!(book.lines(), ["elected 1", "demoted 1 work_failed released"]);
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_hangs_or_panics_costs_no_candidacy() {
    struct Bad(u32);
    impl Service for Bad {
        async fn on_elected(&mut self, leadership: Leadership) -> WorkResult {
            self.0 += 1;
            drop(leadership);
            Err("so that there is an end".into())
        }
        async fn on_demoted(&mut self, _: TermEnded) {
            if self.0 == 1 {
                std::future::pending().await
            }
            panic!("in on_demoted");
        }
    }
    let (lines, _traced) = Lines::record();
    let (_engine, _, locks) = locks(1).await;
    let elector = Elector::builder(&locks, "e").drain_timeout(Duration::from_secs(2)).build().unwrap();
    let running = elector.start(Bad(0)).unwrap();
    while !matches!(locks.get("e").await.unwrap(), Some(record) if record.fencing_token() == Some(3)) {
        sleep(100).await;
    }
    within(10_000, running.shutdown()).await.unwrap();
    let text = lines.text();
    assert!(text.contains("on_demoted") && text.contains("it did not return within the drain timeout"), "{text}");
    assert!(text.contains("it panicked: in on_demoted"), "{text}");
}

/// A term-long `on_elected` holds up no news of leaders, and a callback for those that is slow holds up nothing else.
#[tokio::test(start_paused = true)]
async fn leader_changes_are_told_on_a_task_of_their_own() {
    let (engine, _, locks) = locks(1).await;
    let book = Book::default();
    let told = book.clone();
    let running = Elector::builder(&locks, "e")
        .advertise("http://one")
        .on_elected(|leadership| async move {
            leadership.cancelled().await;
            Ok(())
        })
        .on_leader_changed(move |leader| {
            let told = told.clone();
            async move {
                told.note(leader.map_or("nobody".into(), |leader| leader.address().unwrap_or("unknown").to_owned()));
                if told.count("http://one") == 1 && told.lines().len() == 1 {
                    panic!("a callback's own fault");
                }
            }
        })
        .start()
        .unwrap();
    running.elector().until_leading().await.unwrap();
    sleep(100).await;
    assert_eq!(book.lines(), ["http://one"]);
    let other = client(&engine, &Faults::none(), 2).await;
    let rival = Elector::builder(&other, "e").advertise("http://two").start().unwrap();
    assert_eq!(rival.elector().until_leader().await.unwrap().address(), Some("http://one"));
    running.elector().hand_over().await;
    rival.elector().until_leading().await.unwrap();
    sleep(2_000).await;
    assert_eq!(book.lines().last().unwrap(), "http://two", "{:?}", book.lines());
    running.shutdown().await.unwrap();
    assert_eq!(book.lines().last().unwrap(), "nobody", "it knows of nobody any more");
    rival.shutdown().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_elector_is_used_in_one_way_at_a_time() {
    let (_engine, _, locks) = locks(1).await;
    let elector = Elector::builder(&locks, "e").build().unwrap();
    let (service, _) = Scripted::new(&[Term::Returns]);
    let running = elector.start(service).unwrap();
    let (second, _) = Scripted::new(&[Term::Returns]);
    assert_eq!(kind(elector.start(second)), ErrorKind::Busy);
    assert_eq!(kind(elector.run(async |_| Ok(())).await), ErrorKind::Busy);
    assert_eq!(kind(elector.campaign().await), ErrorKind::Busy);
    running.shutdown().await.unwrap();
    let callbacks = Elector::builder(&locks, "f").on_elected(|_| async { Ok(()) });
    assert_eq!(kind(callbacks.build()), ErrorKind::InvalidInput, "nobody would call it");
}

#[test]
fn a_service_outside_of_a_runtime_is_refused_and_nothing_panics() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let (engine, locks) = runtime.block_on(async {
        let engine = Embedded::in_memory().unwrap();
        let locks = client(&engine, &Faults::none(), 1).await;
        (engine, locks)
    });
    let elector = Elector::builder(&locks, "e").build().unwrap();
    let (service, _) = Scripted::new(&[Term::Returns]);
    assert_eq!(kind(elector.start(service)), ErrorKind::InvalidInput);
    assert_eq!(kind(Elector::builder(&locks, "f").start()), ErrorKind::InvalidInput);
    assert_eq!(kind(elector.shutdown_on_signal()), ErrorKind::InvalidInput);
    // A leadership that outlives its runtime, and is dropped outside of any.
    let leadership = runtime.block_on(elector.campaign()).unwrap();
    let view = leadership.view();
    assert_eq!(kind(futures::executor::block_on(view.guard_blocking(|_| ()))), ErrorKind::InvalidInput);
    drop(runtime);
    assert_eq!(leadership.end_reason(), Some(EndReason::KeeperFailed), "the keeper of simulated time went with it");
    drop((leadership, view, elector, locks, engine));
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "in a destructor");
    }
}

/// Destructors are the user's, too: what is dropped at its bound may panic.
#[tokio::test(start_paused = true)]
async fn a_destructor_that_panics_costs_no_candidacy() {
    let (_engine, _, locks) = locks(1).await;
    let (book, drain) = (Book::default(), Duration::from_secs(1));
    let told = book.clone();
    let running = Elector::builder(&locks, "e")
        .drain_timeout(drain)
        .on_elected(|_| async {
            let _bomb = PanicsWhenDropped;
            std::future::pending().await
        })
        .on_demoted(move |term| {
            told.note(format!("demoted {}", term.fencing_token));
            async {
                let _bomb = PanicsWhenDropped;
                std::future::pending().await
            }
        })
        .start()
        .unwrap();
    for round in 1..3 {
        running.elector().until_leading().await.unwrap();
        running.elector().hand_over().await.unwrap();
        sleep(1_500).await;
        assert_eq!(book.lines().len(), round);
    }
    within(60_000, running.shutdown()).await.unwrap();
    assert_eq!(book.lines(), ["demoted 1", "demoted 2"]);
}

/// What nobody follows is not told as if it were known.
#[tokio::test(start_paused = true)]
async fn between_two_campaigns_nothing_is_known() {
    let (engine, _, locks) = locks(1).await;
    let other = client(&engine, &Faults::none(), 2).await;
    let leader = Elector::builder(&other, "e").build().unwrap().campaign().await.unwrap();
    let elector = Elector::builder(&locks, "e").build().unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(3), elector.campaign()).await.is_err());
    {
        let status = elector.status();
        let status = status.borrow();
        assert_eq!((status.role, &status.leader), (Role::Idle, &None), "the campaign was dropped");
    }
    leader.resign().await;
    let leadership = elector.campaign().await.unwrap();
    leadership.proclaim("http://elsewhere");
    assert_eq!(elector.status().borrow().leader.as_ref().unwrap().address(), Some("http://elsewhere"));
    leadership.resign().await;
    assert_eq!(elector.status().borrow().role, Role::Idle, "it resigned, and does not campaign");
}

/// The way most services stop: `run` and a signal, or an operator.
#[tokio::test(start_paused = true)]
async fn dropping_a_handle_stops_nothing_and_shutdown_leaves_nothing_behind() {
    let (_engine, faults, locks) = locks(1).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let idle = tasks();
    for network in ["up", "down"] {
        let running = Elector::builder(&locks, format!("e-{network}"))
            .on_elected(|leadership| async move {
                leadership.cancelled().await;
                Ok(())
            })
            .on_leader_changed(|_| async {})
            .start()
            .unwrap();
        let elector = running.elector().clone();
        elector.shutdown_on_signal().unwrap();
        drop(running);
        elector.until_leading().await.unwrap();
        assert!(tasks() > idle);
        if network == "down" {
            faults.set(|_| Fault::LoseRequest);
        }
        let began = Instant::now();
        within(60_000, elector.shutdown()).await;
        // It is announced, unless nobody hears of it; work drains at once, and an unconfirmed release is tried until the lease is over.
        let bound = if network == "up" { 3 } else { 13 };
        assert!(began.elapsed() <= Duration::from_secs(bound), "{network}: {:?}", began.elapsed());
        sleep(1).await;
        assert_eq!(tasks(), idle, "network {network}: a task is left");
        let expected = if network == "up" { ReleaseOutcome::Released } else { ReleaseOutcome::Unknown };
        assert_eq!(elector.status().borrow().last_release, Some(expected));
        assert_eq!(elector.status().borrow().role, Role::Stopped(StopReason::ShutDown));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_shut_down_stops_its_electors() {
    let (_engine, _, locks) = locks(1).await;
    let (service, book) = Scripted::new(&[Term::Returns]);
    let leader = Elector::builder(&locks, "e").build().unwrap();
    let running = leader.start(service).unwrap();
    leader.until_leading().await.unwrap();
    sleep(500).await;
    let report = locks.shutdown().await;
    assert_eq!(report.unreleased().count(), 0);
    within(10_000, running.join()).await.unwrap();
    assert_eq!(book.lines(), ["elected 1", "demoted 1 shut_down released"]);
    assert_eq!(leader.until_stopped().await, StopReason::ShutDown);
    assert_eq!(kind(leader.until_leading().await), ErrorKind::Closed);
}

/// Whatever makes the work's future may panic before there is one.
#[tokio::test(start_paused = true)]
async fn work_that_panics_before_its_first_await_is_work_that_failed() {
    let (_engine, _, locks) = locks(1).await;
    let elector = Elector::builder(&locks, "e").stop_after_failure().build().unwrap();
    let work = |_: Leadership| -> std::future::Ready<WorkResult> { panic!("while it was made") };
    let error = within(5_000, elector.run(work)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WorkFailed);
    assert!(error.to_string().contains("while it was made"), "{error}");
    assert_eq!(elector.status().borrow().last_end, Some(EndReason::WorkFailed));
}

#[tokio::test(start_paused = true)]
async fn the_last_status_stays_the_last() {
    let (_engine, _, locks) = locks(1).await;
    let elector = Elector::builder(&locks, "e").build().unwrap();
    let running = elector.start(Idle).unwrap();
    elector.until_leading().await.unwrap();
    let mut status = elector.status();
    running.shutdown().await.unwrap();
    let epoch = status.borrow_and_update().epoch;
    elector.pause().await;
    elector.resume();
    assert!(elector.hand_over().await.is_none());
    elector.shutdown().await;
    assert!(!status.has_changed().unwrap());
    let last = status.borrow();
    assert_eq!((last.epoch, last.role, last.is_paused), (epoch, Role::Stopped(StopReason::ShutDown), false));
}

/// What a term proclaims ends with it, in the record and in the leader's own status.
#[tokio::test(start_paused = true)]
async fn a_term_begins_with_what_the_elector_advertises() {
    let (_engine, _, locks) = locks(1).await;
    let elector = Elector::builder(&locks, "e").advertise("http://one").build().unwrap();
    let leadership = elector.campaign().await.unwrap();
    leadership.proclaim("http://two");
    sleep(500).await;
    assert_eq!(locks.get("e").await.unwrap().unwrap().data(), Some(&b"http://two"[..]));
    leadership.resign().await;
    let _leadership = elector.campaign().await.unwrap();
    assert_eq!(locks.get("e").await.unwrap().unwrap().data(), Some(&b"http://one"[..]));
    let own = elector.until_leader().await.unwrap();
    assert_eq!(own.address(), Some("http://one"), "the status says what the record says");
}

/// What a guard returns at the end of leadership may be handed on: the work has stopped as it was told, and has not failed.
#[tokio::test(start_paused = true)]
async fn work_that_ends_because_leadership_does_has_not_failed() {
    #[derive(Debug)]
    struct Wrapped(dynamo_elector::Error);
    impl std::fmt::Display for Wrapped {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the index was not rebuilt")
        }
    }
    impl std::error::Error for Wrapped {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let (_engine, _, locks) = locks(1).await;
    let builder = Elector::builder(&locks, "e").max_tenure(Duration::from_secs(10)).hand_over_notice(Duration::ZERO);
    let elector = builder.stop_after_success().stop_after_failure().build().unwrap();
    let (starts, stopper) = (Arc::new(Mutex::new(Vec::new())), elector.clone());
    let noted = Arc::clone(&starts);
    let work = elector.run(async move |leadership| {
        noted.lock().unwrap().push(Instant::now());
        let round = noted.lock().unwrap().len();
        if round == 6 {
            let stopper = stopper.clone();
            tokio::spawn(async move { stopper.shutdown().await });
        }
        let end = leadership.guard(std::future::pending::<()>()).await;
        if round % 2 == 0 {
            end.map_err(Wrapped)?
        } else {
            end?
        }
        Ok(())
    });
    within(120_000, work).await.unwrap();
    let starts = starts.lock().unwrap().clone();
    assert_eq!(starts.len(), 6, "neither a success nor a failure to stop for");
    for pair in starts.windows(2) {
        let gap = (pair[1] - pair[0]).as_secs_f64() - 10.0;
        assert!((1.0..2.5).contains(&gap), "one to two polls, each time: {gap}");
    }

    // The same error while it leads is the work's own, such as of a lock it wanted besides.
    let elector = Elector::builder(&locks, "e").stop_after_failure().build().unwrap();
    let work = elector.run(async |leadership| {
        leadership.ensure(Duration::from_secs(3_600))?;
        Ok(())
    });
    let error = within(10_000, work).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WorkFailed);
}

crate::privileges::suite! {
    work_that_ends_because_leadership_does_has_not_failed,
    work_that_panics_before_its_first_await_is_work_that_failed,
    the_last_status_stays_the_last,
    a_term_begins_with_what_the_elector_advertises,
    callbacks_come_in_pairs_and_in_order_whatever_they_do,
    the_return_of_on_elected_does_not_end_the_term,
    pauses_after_failing_work_double_up_to_a_limit_and_start_anew_after_success,
    work_can_stop_the_elector_for_good,
    a_callback_that_hangs_or_panics_costs_no_candidacy,
    leader_changes_are_told_on_a_task_of_their_own,
    an_elector_is_used_in_one_way_at_a_time,
    a_destructor_that_panics_costs_no_candidacy,
    between_two_campaigns_nothing_is_known,
    dropping_a_handle_stops_nothing_and_shutdown_leaves_nothing_behind,
    a_client_that_is_shut_down_stops_its_electors,
}
