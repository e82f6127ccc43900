//! Shutdowns that meet an election on another thread: simulated time has one thread alone.

use std::time::Duration;

use dynamo_elector::{Elector, Embedded, LockClient, Role};

/// The answer to the campaign and the shutdown cross each other: neither may wait for the other for ever, nor may the
/// process lead on.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_at_the_very_moment_of_an_election_ends_it() {
    let engine = Embedded::in_memory().unwrap();
    let locks = LockClient::embedded(&engine, "locks").build().await.unwrap();
    for round in 0..2_000 {
        let elector = Elector::builder(&locks, format!("round-{round}"));
        let running = elector
            .on_elected(|leadership| async move {
                leadership.cancelled().await;
                Ok(())
            })
            .start()
            .unwrap();
        let elector = running.elector().clone();
        elector.until_leading().await.unwrap();
        // Some microseconds, each time others: the moment that matters is short.
        for _ in 0..round % 100 * 10 {
            std::hint::spin_loop();
        }
        let shutdown = tokio::time::timeout(Duration::from_secs(20), running.shutdown());
        shutdown.await.unwrap_or_else(|_| panic!("round {round}: the shutdown hangs")).unwrap();
        let status = elector.status().borrow().clone();
        assert!(matches!(status.role, Role::Stopped(_)) && !status.is_leader(), "round {round}: {status:?}");
    }
}
