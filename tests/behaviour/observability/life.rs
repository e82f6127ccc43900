//! A life of an elector with everything in it that is told.

use std::time::Duration;

use dynamo_elector::{Elector, Embedded, EndReason, Fault, Faults, LockClient};

use crate::client;
use crate::support::{Item, body, raw, refusal, sleep};

/// In data, attributes and answers.
pub(super) const SECRET: &str = "secret";

/// Puts a whole item back, as a restored backup would.
pub(super) async fn restore(engine: &Embedded, item: Item) {
    engine.client().put_item().table_name("locks").set_item(Some(item)).send().await.unwrap();
}

pub(super) struct Life {
    pub(super) engine: Embedded,
    faults: Faults,
    pub(super) locks: LockClient,
    pub(super) elector: Elector,
}

impl Life {
    pub(super) async fn begin() -> Self {
        let (engine, faults) = (Embedded::in_memory().unwrap(), Faults::none());
        let ttl = r#"{"TimeToLiveDescription": {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}}"#;
        faults.set(move |call| match call.operation.as_str() {
            "DescribeTimeToLive" => Fault::Respond { status: 200, body: ttl.into() },
            _ => Fault::Deliver,
        });
        let locks = client(&engine, &faults, 1).await;
        faults.set(|_| Fault::Deliver);
        let elector = Elector::builder(&locks, "e").advertise(format!("{SECRET} address")).build().unwrap();
        Self { engine, faults, locks, elector }
    }

    /// Four terms: lost, given up, given up after the record was restored from a backup, failed; and what makes the rest of
    /// the events.
    pub(super) async fn live(&self) {
        let leadership = self.elector.campaign().await.unwrap();
        let first = leadership.fencing_token();
        sleep(11_000).await;
        let backup = raw(&self.engine, "e").await.unwrap();
        self.faults.set(|_| refusal("InternalServerError", "secret cause"));
        leadership.cancelled().await;
        assert_eq!(leadership.end_reason(), Some(EndReason::Deadline));
        self.faults.set(|_| Fault::Deliver);
        drop(leadership);
        let leadership = self.elector.campaign().await.unwrap();
        let other = client(&self.engine, &Faults::none(), 2).await;
        let follower = Elector::builder(&other, "e").build().unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(3), follower.campaign()).await.is_err(), "it follows");
        follower.shutdown().await;
        // Its release is never answered: it is retried to the end of the lease.
        self.faults.set(|call| {
            let released = body(call).to_string().contains(":released");
            if released { refusal("ThrottlingException", "secret cause") } else { Fault::Deliver }
        });
        leadership.resign().await;
        self.faults.set(|_| Fault::Deliver);
        restore(&self.engine, backup).await;
        let leadership = self.elector.campaign().await.unwrap();
        assert_eq!(leadership.fencing_token(), first + 2, "healed");
        leadership.resign().await;
        let stopper = self.elector.clone();
        let work = async move |_leadership| {
            let stopper = stopper.clone();
            tokio::spawn(async move {
                sleep(100).await;
                stopper.shutdown().await;
            });
            Err("broken work".into())
        };
        self.elector.run(work).await.unwrap();
        self.elector.shutdown().await;
    }

    pub(super) async fn lose_a_lock(&self) {
        let lock = self.locks.acquire("election").data(format!("{SECRET} data")).await.unwrap();
        self.faults.set(|_| Fault::LoseReply);
        lock.lost().cancelled().await;
        self.faults.set(|_| Fault::Deliver);
        lock.release().await.unwrap();
        sleep(1_000).await;
    }

    /// More at once than fits into the queue.
    pub(super) async fn overflow(&self) {
        for number in 0..2_200 {
            drop(Elector::builder(&self.locks, format!("brief-{number}")).build().unwrap());
        }
        sleep(1).await;
        // What comes next tells of it.
        drop(Elector::builder(&self.locks, "brief").build().unwrap());
        sleep(1).await;
    }
}
