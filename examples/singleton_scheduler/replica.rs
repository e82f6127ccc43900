//! One replica: runs the schedule while it leads, and tells on its output what happens.

use std::io::Read;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{Elector, LeadershipView};
use tokio::signal::unix::{SignalKind, signal};

use super::Options;

/// Longer than this between two looks at the clock: the process was frozen.
const FROZEN: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Schedule {
    client: Client,
    table: String,
    replica: String,
}

impl Schedule {
    /// Records that `tick` was run, unless it was run before or a newer leader has been here.
    async fn record(&self, tick: u64, token: u64) -> anyhow::Result<bool> {
        let result = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("key", AttributeValue::S("schedule".into()))
            .update_expression("SET #tick = :tick, #fence = :token, #by = :by")
            .condition_expression(
                "(attribute_not_exists(#fence) OR #fence <= :token) AND (attribute_not_exists(#tick) OR #tick < :tick)",
            )
            .expression_attribute_names("#tick", "tick")
            .expression_attribute_names("#fence", "fence")
            .expression_attribute_names("#by", "ranBy")
            .expression_attribute_values(":tick", AttributeValue::N(tick.to_string()))
            .expression_attribute_values(":token", AttributeValue::N(token.to_string()))
            .expression_attribute_values(":by", AttributeValue::S(self.replica.clone()))
            .send()
            .await;
        match result {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|e| e.is_conditional_check_failed_exception()) => {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The number of the current second: the same on all replicas.
fn current_tick() -> u64 {
    #[allow(clippy::disallowed_methods, reason = "ticks are named by the wall clock; nothing is decided by it")]
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

pub(super) async fn run(options: &Options, name: String) -> anyhow::Result<()> {
    std::thread::spawn(|| {
        // Nothing is ever written to it: it ends when the drill does, and no replica may outlive that.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(1);
    });
    let (client, builder) = options.connect().await?;
    let locks = builder.owner(&name).timing(options.timing()?).build().await?;
    let elector = Elector::builder(&locks, "scheduler").advertise(name.as_bytes()).build()?;
    let schedule = Schedule { client, table: options.table.clone(), replica: name };

    let stopper = elector.clone();
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        terminated.recv().await;
        println!("stopping");
        stopper.shutdown().await;
    });
    let run = elector.run(async |leadership| {
        let token = leadership.fencing_token();
        println!("elected {token}");
        let watch = tokio::spawn(watch_for_freeze(schedule.clone(), leadership.view()));
        let mut every_second = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! { biased;
                () = leadership.cancelled() => break,
                _ = every_second.tick() => {
                    let tick = current_tick();
                    // A store that fails is no reason to stop: the token says when to.
                    if leadership.is_valid() && schedule.record(tick, token).await.unwrap_or(false) {
                        println!("tick {tick} {token}");
                    }
                }
            }
        }
        watch.await?;
        let reason = leadership.end_reason().map_or("resigned", |reason| reason.as_str());
        println!("demoted {token} {reason}");
        Ok(())
    });
    run.await?;
    println!("stopped");
    Ok(())
}

/// Always between a check and an effect: if the process is frozen there, the next check must say so,
/// and the effect that was already past its check must be refused by the fence.
async fn watch_for_freeze(schedule: Schedule, view: LeadershipView) {
    let stop = view.cancelled();
    tokio::pin!(stop);
    loop {
        let checked = view.is_valid();
        let before = tokio::time::Instant::now();
        // Not raced against the token: this is the pause between check and effect.
        tokio::time::sleep(Duration::from_millis(20)).await;
        if checked && before.elapsed() > FROZEN {
            println!("thawed {}", if view.is_valid() { "valid" } else { "deposed" });
            let accepted = schedule.record(current_tick() + 1, view.fencing_token()).await;
            println!("late {}", if accepted.unwrap_or(false) { "accepted" } else { "refused" });
            return;
        }
        if futures::FutureExt::now_or_never(stop.as_mut()).is_some() {
            return;
        }
    }
}
