//! Real processes in real time, on one host: they are killed, stopped, cut off, slowed down and starved, and each writes down by
//! a clock that they share for how long it believed that it leads. Overlap is measured, not inferred.
//!
//! `just chaos 60` runs it for an hour; `CHAOS_SEED` repeats the faults of a run, `CHAOS_OUT` is where its report goes.

mod chart;
mod checker;
mod engine;
mod faults;
mod journal;
mod proxy;
mod replica;
mod report;
mod run;

use std::path::{Path, PathBuf};
use std::time::Duration;

use checker::{Evidence, Verdict};
use dynamo_elector::Timing;
use faults::{Kind, Plan};
use journal::{nanos, now};
use report::Settings;
use run::Run;

const PART: &str = "CHAOS_PART";
const REPLICAS: usize = 4;
/// Fewer faults a minute than this are no chaos: the run fails.
const FAULTS_A_MINUTE: f64 = 3.4;

/// Not a test by itself: what the others start.
#[test]
#[ignore = "a part for a process of its own"]
fn play_a_part() {
    let Ok(part) = std::env::var(PART) else { return };
    replica::die_with_parent();
    match part.as_str() {
        "replica" => replica::run(),
        "burn" => {
            let time = std::env::var("CHAOS_BURN").unwrap().parse().unwrap();
            let end = now() + nanos(Duration::from_millis(time));
            while now() < end {
                std::hint::spin_loop();
            }
            std::process::exit(0);
        }
        other => panic!("no such part: {other}"),
    }
}

/// All that there is to judge, from the journals and from the table.
fn judge(run: &Run, folder: &Path) -> Verdict {
    let effects = run.effects.lock().unwrap().clone();
    let mut verdict = checker::judge(&Evidence::read(folder, &run.lives(), run.faults.clone(), effects));
    verdict.failures.extend(run.failures.iter().cloned());
    verdict
}

/// Runs the faults, one after another.
fn short(replicas: usize, plans: &[Plan]) -> Verdict {
    let folder = tempfile::tempdir().unwrap();
    let mut run = Run::start(folder.path(), replicas);
    assert!(run.go_on(Duration::from_secs(60), |run| run.leader().is_some()), "nobody leads");
    for plan in plans {
        run.go_on(plan.after, |_| false);
        run.fire(*plan);
    }
    run.finish();
    let verdict = judge(&run, folder.path());
    if !verdict.failures.is_empty() {
        let kept = folder.keep();
        panic!("{:#?}\njournals: {}", verdict.failures, kept.display());
    }
    assert_eq!(run.faults.len(), plans.len(), "each fault happened: {:?}", run.faults);
    verdict
}

/// R9, I4: a process that was frozen for two leases learns by its very first look, before anything else could tell it, that it
/// leads no more; and its token fires within the guard.
#[test]
fn a_leader_stopped_for_two_leases_is_deposed_at_its_first_look_and_told_within_250_ms() {
    let stop = Plan::at_leader(Kind::StopTwoLeases, Duration::from_secs(1), Timing::aggressive().lease() * 2);
    let verdict = short(2, &[stop]);
    assert_eq!(verdict.thaws.len(), 1, "{:?}", verdict.thaws);
    assert!(verdict.terms >= 2 && verdict.applied > 0, "the other took over: {verdict:?}");
}

/// A label names nobody: the frozen process wakes beside one that was started in its place, under the same label, and both
/// campaign on.
#[test]
fn a_leader_that_wakes_beside_its_successor_of_the_same_label_leads_no_more() {
    let double = Plan::at_leader(Kind::Double, Duration::from_secs(1), Timing::aggressive().lease().mul_f64(1.5));
    let verdict = short(1, &[double]);
    assert_eq!(verdict.thaws.len(), 1, "{:?}", verdict.thaws);
    assert!(verdict.terms >= 2 && verdict.applied > 0, "the successor took over: {verdict:?}");
}

/// I1, with processes: `just chaos` does it for long, with more kinds of faults.
#[test]
fn no_two_processes_lead_at_once_whether_killed_stopped_or_cut_off() {
    let (lease, pause) = (Timing::aggressive().lease(), Duration::from_secs(1));
    let faults = [
        Plan::at_leader(Kind::Kill, pause, pause),
        Plan::at_leader(Kind::Stop, pause * 5, lease.mul_f64(1.2)),
        Plan::at_leader(Kind::Cut, pause * 5, lease.mul_f64(1.2)),
        Plan::at_leader(Kind::Terminate, pause * 5, pause),
    ];
    let verdict = short(3, &faults);
    assert!(verdict.terms >= 4 && verdict.applied > 0, "{verdict:?}");
    let polite = verdict.failovers.iter().find(|failover| failover.kind == Kind::Terminate).unwrap();
    assert!(
        polite.took < nanos(lease + Timing::aggressive().poll()),
        "a release hands over before the lease is out: {polite:?}"
    );
}

/// `CHAOS_MINUTES`, `CHAOS_SEED` and `CHAOS_OUT` say how long, which faults, and where the report goes.
#[test]
#[ignore = "takes minutes: `just chaos` runs it"]
fn replicas_that_are_killed_stopped_cut_off_and_starved_never_lead_at_once() {
    let set = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let minutes: f64 = set("CHAOS_MINUTES").map_or(3.0, |text| text.parse().unwrap());
    let seed: u64 = set("CHAOS_SEED").map_or_else(now, |text| text.parse().unwrap());
    let out = set("CHAOS_OUT").map_or_else(|| tempfile::tempdir().unwrap().keep(), PathBuf::from);
    std::fs::create_dir_all(&out).unwrap();
    println!("SEED={seed}, {minutes} minutes, report in {}", out.display());
    let journals = tempfile::tempdir().unwrap();
    let mut run = Run::start(journals.path(), REPLICAS);
    assert!(run.go_on(Duration::from_secs(60), |run| run.leader().is_some()), "nobody leads");
    let (mut random, start) = (fastrand::Rng::with_seed(seed), now());
    let end = start + nanos(Duration::from_secs_f64(minutes * 60.0));
    loop {
        let plan = Plan::draw(&mut random, REPLICAS);
        if now() + nanos(plan.after) > end {
            break;
        }
        run.go_on(plan.after, |_| false);
        run.fire(plan);
    }
    run.go_on(Duration::from_nanos(end.saturating_sub(now())), |_| false);
    run.finish();
    let mut verdict = judge(&run, journals.path());
    let settings = Settings { minutes, seed, replicas: REPLICAS, lasted: now() - start };
    if (run.faults.len() as f64) < minutes * FAULTS_A_MINUTE {
        verdict.failures.push(format!("only {} faults in {minutes} minutes", run.faults.len()));
    }
    report::write(&out, &settings, &run.faults, &verdict);
    println!("{}", std::fs::read_to_string(out.join("chaos.md")).unwrap());
    if !verdict.failures.is_empty() {
        let kept = journals.keep();
        panic!("SEED={seed}: {:#?}\njournals: {}", verdict.failures, kept.display());
    }
}
