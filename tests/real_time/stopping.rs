//! Shutdowns that meet an election on another thread: simulated time has one thread alone.

use std::time::Duration;

use dynamo_elector::{Elector, Embedded, LockClient, ReleaseOutcome, Role, Transition};
use futures::StreamExt;

/// The answer to the campaign and the shutdown cross each other: neither may wait for the other for ever, nor may the
/// process lead on.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_at_the_very_moment_of_an_election_ends_it() {
    let engine = Embedded::in_memory().unwrap();
    let locks = LockClient::embedded(&engine, "locks").build().await.unwrap();
    for round in 0..2_000 {
        let elector = Elector::builder(&locks, format!("round-{round}"));
        let running = elector
            .hand_over_notice(Duration::ZERO)
            .on_elected(|leadership| async move {
                leadership.cancelled().await;
                Ok(())
            })
            .start()
            .unwrap();
        let elector = running.elector().clone();
        let mut transitions = elector.transitions();
        elector.until_leading().await.unwrap();
        // Some microseconds, each time others: the moment that matters is short.
        for _ in 0..round % 100 * 10 {
            std::hint::spin_loop();
        }
        let shutdown = tokio::time::timeout(Duration::from_secs(20), running.shutdown());
        shutdown.await.unwrap_or_else(|_| panic!("round {round}: the shutdown hangs")).unwrap();
        let status = elector.status().borrow().clone();
        assert!(matches!(status.role, Role::Stopped(_)) && !status.is_leader(), "round {round}: {status:?}");
        assert_eq!(status.last_release, Some(ReleaseOutcome::Released), "round {round}: confirmed before it is told");
        // In order and without a gap, from several threads.
        let mut last = 0;
        while let Some(transition) = transitions.next().await {
            let (Transition::LeaderChanged { epoch, .. }
            | Transition::Elected { epoch, .. }
            | Transition::Demoted { epoch, .. }
            | Transition::Released { epoch, .. }
            | Transition::Stopped { epoch, .. }) = transition
            else {
                panic!("round {round}: {transition:?}")
            };
            assert!(epoch == last + 1 || last == 0, "round {round}: {epoch} after {last}");
            last = epoch;
        }
        assert_eq!(last, status.epoch, "round {round}");
    }
}

/// What is told is so: whoever hears that this process leads can act on it, and end it.
#[tokio::test(flavor = "multi_thread")]
async fn as_soon_as_it_leads_there_is_a_leadership_to_use_and_to_give_up() {
    let engine = Embedded::in_memory().unwrap();
    let locks = LockClient::embedded(&engine, "locks").build().await.unwrap();
    for round in 0..500 {
        let elector = Elector::builder(&locks, format!("round-{round}")).hand_over_notice(Duration::ZERO);
        let elector = elector.start().unwrap().into_elector();
        elector.until_leading().await.unwrap();
        let leadership = elector.leadership().unwrap_or_else(|| panic!("round {round}: none to use"));
        assert!(leadership.is_valid() && leadership.fencing_token() == 1);
        drop(leadership);
        if round % 2 == 0 {
            assert_eq!(elector.hand_over().await, Some(ReleaseOutcome::Released), "round {round}");
        }
        elector.shutdown().await;
    }
}

/// A shutdown tells of what is so, also when nobody polls the work that is to end.
#[tokio::test(start_paused = true)]
async fn a_shutdown_needs_nobody_to_poll_the_campaign() {
    let engine = Embedded::in_memory().unwrap();
    let builder = LockClient::builder(&engine.client(), "locks").share_http_client().create_table().simulated(1);
    let locks = builder.build().await.unwrap();
    let rival = locks.acquire("e").await.unwrap();
    let elector = Elector::builder(&locks, "e").build().unwrap();
    let mut run = Box::pin(elector.run(async |_| panic!("it is never elected")));
    assert!(futures::poll!(&mut run).is_pending());
    tokio::time::sleep(Duration::from_secs(3)).await;
    rival.release().await.unwrap();
    // It wins, and nobody takes the leadership.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(elector.status().borrow().is_leader());
    tokio::time::timeout(Duration::from_secs(20), elector.shutdown()).await.unwrap();
    assert!(locks.get("e").await.unwrap().unwrap().is_released());
    run.await.unwrap();
}
