//! Services in real time: what ends processes, what signals do, what is left behind. Each scenario is a process of its own: this
//! very program, told by the environment which part to play.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dynamo_elector::{
    Elector, Embedded, EndReason, ErrorKind, Fault, Faults, Leadership, LockClient, Service, Timing, WorkResult,
};
use tokio::runtime::Runtime;

use crate::server::Server;
use crate::{ShortLived, clock, sdk};

const PART: &str = "SERVICES_PART";
const ENDPOINT: &str = "SERVICES_ENDPOINT";

/// Starts this program again in a part of [`play_a_part`].
fn start(part: &str, endpoint: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "services::play_a_part", "--include-ignored", "--nocapture"])
        .env(PART, part)
        .env(ENDPOINT, endpoint)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for the end, and gives back what it wrote.
fn end(mut child: Child) -> (ExitStatus, String, Duration) {
    let began = clock();
    let (mut out, mut err) = (String::new(), String::new());
    let mut errors = child.stderr.take().unwrap();
    let reader = std::thread::spawn(move || {
        errors.read_to_string(&mut err).unwrap();
        err
    });
    if let Some(mut rest) = child.stdout.take() {
        rest.read_to_string(&mut out).unwrap();
    }
    let status = child.wait().unwrap();
    (status, out + &reader.join().unwrap(), began.elapsed())
}

/// Reads on until it says this.
fn read_until(child: &mut Child, line: &str) -> Vec<String> {
    let mut lines = Vec::new();
    // Byte by byte, as it were: what is not asked for yet stays in the pipe.
    let mut reader = BufReader::with_capacity(1, child.stdout.as_mut().unwrap());
    loop {
        let mut text = String::new();
        assert!(reader.read_line(&mut text).unwrap() > 0, "it ended: {lines:?}");
        lines.push(text.trim().to_owned());
        if text.contains(line) {
            return lines;
        }
    }
}

#[cfg(unix)]
fn signal_of(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

/// R7: what blocks a thread can't be dropped; where that was asked for, the keeper ends the process at the bound.
#[test]
fn a_stuck_process_ends_itself_at_its_bound() {
    const SIGABRT: i32 = 6;
    for part in ["stuck after a shutdown", "stuck when cut off"] {
        let mut child = start(part, "");
        read_until(&mut child, "leading");
        let (status, text, took) = end(child);
        assert_eq!(signal_of(status), Some(SIGABRT), "{part}: {status} {text}");
        assert!(text.contains("work did not stop at its bound: ending the process"), "{part}: {text}");
        assert!(!text.contains("woke up"), "{part}: {text}");
        assert!(took < Duration::from_secs(6), "{part}: {took:?}");
    }
}

#[test]
fn a_process_that_stops_in_time_is_spared() {
    let (status, text, _) = end(start("stops in time", ""));
    assert!(status.success() && text.contains("stopped by itself"), "{status} {text}");
}

#[test]
fn a_signal_lets_work_drain_and_releases() {
    use rustix::process::{Pid, Signal, kill_process};
    for signal in [Signal::TERM, Signal::INT] {
        let mut child = start("serves until a signal", "");
        read_until(&mut child, "leading");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let (status, text, took) = end(child);
        assert!(status.success(), "{status} {text}");
        let (drained, released) = (text.find("drained").unwrap(), text.find("released: Some(Released)").unwrap());
        assert!(drained < released, "{text}");
        assert!(took < Duration::from_secs(5), "{took:?}");
    }
}

/// I8: no thread, no connection.
#[test]
fn nothing_is_left_after_a_shutdown_with_the_network_up_or_down() {
    let server = Server::start();
    let (status, text, _) = end(start("leaves nothing behind", &server.url()));
    assert!(status.success() && text.contains("nothing is left: up"), "{status} {text}");
    let mut child = start("leaves nothing behind, with the network down", &server.url());
    read_until(&mut child, "leading");
    server.hang();
    let (status, text, _) = end(child);
    assert!(status.success() && text.contains("nothing is left: down"), "{status} {text}");
}

/// Not a test by itself: what the others start.
#[test]
#[ignore = "a part for a process of its own"]
fn play_a_part() {
    let Ok(part) = std::env::var(PART) else { return };
    tracing_subscriber::fmt().with_ansi(false).with_writer(std::io::stderr).init();
    let runtime = Runtime::new().unwrap();
    let endpoint = std::env::var(ENDPOINT).unwrap();
    runtime.block_on(async {
        match part.as_str() {
            "stuck after a shutdown" => blocks(true, Duration::from_secs(60)).await,
            "stuck when cut off" => blocks(false, Duration::from_secs(60)).await,
            "stops in time" => blocks(true, Duration::from_millis(300)).await,
            "serves until a signal" => serves_until_a_signal().await,
            "leaves nothing behind" => leaves_nothing(&endpoint, "up").await,
            "leaves nothing behind, with the network down" => leaves_nothing(&endpoint, "down").await,
            other => panic!("no such part: {other}"),
        }
    });
}

/// Work that blocks its thread after it was told to stop, by a shutdown or because the store is cut off.
async fn blocks(politely: bool, time: Duration) {
    let (engine, faults) = (Embedded::in_memory().unwrap(), Faults::none());
    let locks = LockClient::builder(&engine.client_with_faults(&faults), "locks").share_http_client().create_table();
    let locks = locks.timing(Timing::aggressive()).build().await.unwrap();
    let builder = Elector::builder(&locks, "e").drain_timeout(Duration::from_secs(1)).end_process_when_stuck();
    let elector = builder.build().unwrap();
    let stopper = elector.clone();
    let run = elector.run(async move |leadership| {
        println!("leading");
        if politely {
            let stopper = stopper.clone();
            tokio::spawn(async move { stopper.shutdown().await });
        } else {
            faults.set(|_| Fault::LoseRequest);
        }
        leadership.cancelled().await;
        std::thread::sleep(time);
        println!("woke up");
        Ok(())
    });
    run.await.unwrap();
    println!("stopped by itself");
}

async fn serves_until_a_signal() {
    let engine = Embedded::in_memory().unwrap();
    let locks = LockClient::embedded(&engine, "locks").timing(Timing::aggressive()).build().await.unwrap();
    let elector = Elector::builder(&locks, "e").build().unwrap();
    elector.shutdown_on_signal().unwrap();
    let run = elector.run(async |leadership| {
        println!("leading");
        leadership.cancelled().await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        println!("drained");
        Ok(())
    });
    run.await.unwrap();
    elector.until_stopped().await;
    println!("released: {:?}", elector.status().borrow().last_release);
}

fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.map(|task| name(task.unwrap())).filter(|name| name.starts_with("dynamo-elector")).count()
}

fn sockets() -> usize {
    let files = std::fs::read_dir("/proc/self/fd").unwrap();
    let target = |file: std::fs::DirEntry| std::fs::read_link(file.path()).unwrap_or_default();
    files.map(|file| target(file.unwrap())).filter(|target| target.to_string_lossy().starts_with("socket:")).count()
}

async fn leaves_nothing(endpoint: &str, network: &str) {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let (idle, connections) = (tasks(), sockets());
    assert_eq!(threads(), 0);
    {
        let client = sdk(endpoint, &ShortLived::default());
        let table = format!("locks-{network}");
        let builder = LockClient::builder(&client, table).create_table().timing(Timing::aggressive());
        let locks = builder.build().await.unwrap();
        let running = Elector::builder(&locks, "e")
            .on_elected(|leadership| async move {
                leadership.cancelled().await;
                Ok(())
            })
            .on_leader_changed(|_| async {})
            .start()
            .unwrap();
        running.elector().until_leading().await.unwrap();
        assert_eq!(threads(), 2, "the keeper and the herald");
        assert!(sockets() > connections && tasks() > idle);
        println!("leading");
        if network == "down" {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let began = clock();
        running.shutdown().await.unwrap();
        locks.shutdown().await;
        assert!(began.elapsed() < Timing::aggressive().lease() + Duration::from_secs(3), "{:?}", began.elapsed());
    }
    // The keeper ends with its last handle.
    let deadline = clock() + Duration::from_secs(3);
    while (threads(), tasks(), sockets()) != (0, idle, connections) {
        assert!(clock() < deadline, "left: {} threads, {} tasks, {} sockets", threads(), tasks(), sockets());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("nothing is left: {network}");
}

#[test]
fn blocking_work_is_guarded() {
    let runtime = Runtime::new().unwrap();
    runtime.block_on(async {
        let engine = Embedded::in_memory().unwrap();
        let locks = LockClient::embedded(&engine, "locks").timing(Timing::aggressive()).build().await.unwrap();
        let elector = Elector::builder(&locks, "e").build().unwrap();
        let leadership = elector.campaign().await.unwrap();
        let sum = leadership.guard_blocking(|view| (1..=10).filter(|_| view.is_valid()).sum::<u32>()).await.unwrap();
        assert_eq!(sum, 55);

        // Told at once, though the thread needs a while to notice; the release waits for it.
        let (told, noticed) = (leadership.view(), clock());
        let work = tokio::spawn(async move {
            let slow = |view: dynamo_elector::LeadershipView| {
                while view.ensure(Duration::ZERO).is_ok() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                std::thread::sleep(Duration::from_millis(500));
                drop(view);
            };
            told.guard_blocking(slow).await
        });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let began = clock();
        leadership.resign().await;
        assert!(began.elapsed() >= Duration::from_millis(450), "released under its work: {:?}", began.elapsed());
        assert_eq!(work.await.unwrap().unwrap_err().kind(), ErrorKind::NotHeld);
        assert!(noticed.elapsed() < Duration::from_secs(3));

        let leadership = elector.campaign().await.unwrap();
        let view = leadership.view();
        let panicked = tokio::spawn(async move { view.guard_blocking(|_| panic!("in the work")).await });
        assert!(panicked.await.unwrap_err().is_panic());
        elector.shutdown().await;
        let ended = leadership.guard_blocking(|_| unreachable!("it is not begun")).await;
        assert_eq!(ended.unwrap_err().kind(), ErrorKind::NotHeld);
    });
}

/// Work that wedges its thread before anything else had a turn on it has never beaten. It is silent all the same.
#[test]
fn work_that_blocks_its_thread_from_the_first_moment_on_is_silent() {
    let blocked = Duration::from_secs(6);
    let wedged = |elector: Elector, campaigned: bool| {
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                if campaigned {
                    let leadership = elector.campaign().await.unwrap();
                    std::thread::sleep(blocked);
                    return drop(leadership);
                }
                let work = elector.run(async |_| {
                    std::thread::sleep(blocked);
                    Ok(())
                });
                work.await.unwrap();
            });
        })
    };
    Runtime::new().unwrap().block_on(async {
        let engine = Embedded::in_memory().unwrap();
        let locks = LockClient::embedded(&engine, "locks").timing(Timing::aggressive()).build().await.unwrap();
        let mut parts = Vec::new();
        for campaigned in [false, true] {
            let builder = Elector::builder(&locks, format!("campaigned: {campaigned}")).stop_after_success();
            let builder =
                builder.step_down_when_silent(Duration::from_secs(2)).drain_timeout(Duration::from_millis(200));
            let elector = builder.build().unwrap();
            parts.push((elector.clone(), wedged(elector, campaigned)));
        }
        let began = clock();
        for (elector, _) in &parts {
            let mut status = elector.status();
            let ended = status.wait_for(|status| status.last_end.is_some());
            let ended = tokio::time::timeout(blocked.saturating_sub(began.elapsed()), ended).await;
            let ended = ended.unwrap_or_else(|_| panic!("{} leads on", elector.name())).unwrap();
            assert_eq!(ended.last_end, Some(EndReason::Silent), "{}", elector.name());
        }
        assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
        for (_, thread) in parts {
            thread.join().unwrap();
        }
    });
}

/// Whoever shuts down and then closes what the service uses finds nothing of the service left.
#[test]
fn a_service_is_gone_when_its_shutdown_returns() {
    struct Slow(Arc<AtomicBool>);
    impl Service for Slow {
        async fn on_elected(&mut self, _: Leadership) -> WorkResult {
            Ok(())
        }
    }
    impl Drop for Slow {
        fn drop(&mut self) {
            std::thread::sleep(Duration::from_millis(200));
            self.0.store(true, Ordering::SeqCst);
        }
    }
    Runtime::new().unwrap().block_on(async {
        let engine = Embedded::in_memory().unwrap();
        let locks = LockClient::embedded(&engine, "locks").timing(Timing::aggressive()).build().await.unwrap();
        let (elector, gone) = (Elector::builder(&locks, "e").build().unwrap(), Arc::default());
        let _running = elector.start(Slow(Arc::clone(&gone))).unwrap();
        elector.until_leading().await.unwrap();
        elector.shutdown().await;
        assert!(gone.load(Ordering::SeqCst), "shut down, and the service still there");
    });
}
