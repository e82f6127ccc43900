//! This crate as a peer process.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::AttributeValue;
use dynamo_elector::{DurationText, ErrorKind, Fencing, Lock, LockClient, Timing};
use tokio::runtime::Runtime;

use super::peer::{Settings, Verbs, attributes, base64, data, nanos, serve};
use crate::sdk;

/// A client like the peers', in a process or in the test itself.
pub(crate) async fn client(settings: &Settings, text: DurationText, fencing: Fencing) -> LockClient {
    let timing = Timing::builder().lease(settings.lease).poll(settings.refresh);
    let timing = timing.heartbeat(settings.heartbeat).build().expect("settings that hold");
    LockClient::builder(&sdk(&settings.endpoint, &crate::ShortLived::default()), &settings.table)
        .owner(&settings.owner)
        .duration_text(text)
        .fencing(fencing)
        .timing(timing)
        .build()
        .await
        .expect("a client")
}

struct Ours {
    runtime: Runtime,
    locks: LockClient,
    held: HashMap<String, Lock>,
    journal: aws_sdk_dynamodb::Client,
}

pub(super) fn main() {
    let settings = Settings::from_env();
    let set = |name: &str| std::env::var(name).unwrap_or_default();
    let text = if set("PEER_TEXT") == "java" { DurationText::JavaMillis } else { DurationText::Go };
    let fencing = if set("PEER_FENCING") == "record" { Fencing::FenceRecord } else { Fencing::Record };
    let runtime = Runtime::new().unwrap();
    let locks = runtime.block_on(client(&settings, text, fencing));
    let journal = sdk(&settings.endpoint, &crate::ShortLived::default());
    let mut ours = Ours { runtime, locks, held: HashMap::new(), journal };
    serve("dynamo-elector", env!("CARGO_PKG_VERSION"), &mut ours);
}

fn told(error: &dynamo_elector::Error) -> String {
    format!("{:?} {error}", error.kind())
}

impl Verbs for Ours {
    fn execute(&mut self, verb: &str, arguments: &[&str]) -> Result<String, String> {
        match (verb, arguments) {
            ("acquire", [key, wait, with, more]) => self.acquire(key, wait, with, more),
            ("try", [key]) => {
                let lock = self.runtime.block_on(self.locks.try_acquire(*key)).map_err(|error| told(&error))?;
                Ok(lock.map_or("refused".into(), |lock| self.keep(key, lock)))
            }
            ("release", [key, "keep"]) => {
                let lock = self.held.remove(*key).ok_or("not held")?;
                let outcome = self.runtime.block_on(async { lock.release().await }).map_err(|error| told(&error))?;
                Ok(if outcome == dynamo_elector::ReleaseOutcome::Released { "released" } else { "lost" }.into())
            }
            ("believes", [key]) => {
                let believes = self.held.get(*key).is_some_and(Lock::is_valid);
                Ok(if believes { "yes" } else { "no" }.into())
            }
            ("get", [key]) => self.get(key),
            ("contend", [key, hold, pause]) => {
                let millis = |text: &str| Duration::from_millis(text.parse().unwrap());
                self.contend(key, millis(hold), millis(pause))
            }
            _ => Err(format!("not a command: {verb} {arguments:?}")),
        }
    }
}

impl Ours {
    fn keep(&mut self, key: &str, lock: Lock) -> String {
        self.held.insert(key.to_owned(), lock);
        "acquired".into()
    }

    fn acquire(&mut self, key: &str, wait: &str, with: &str, more: &str) -> Result<String, String> {
        let mut acquire = self.locks.acquire(key).wait_up_to(Duration::from_millis(wait.parse().unwrap()));
        if let Some(data) = data(with) {
            acquire = acquire.data(data);
        }
        for (name, value) in attributes(more) {
            acquire = acquire.attribute(name, AttributeValue::S(value));
        }
        match self.runtime.block_on(async { acquire.await }) {
            Ok(lock) => Ok(self.keep(key, lock)),
            Err(error) if error.kind() == ErrorKind::WaitOver => Ok("refused".into()),
            Err(error) => Err(told(&error)),
        }
    }

    fn get(&self, key: &str) -> Result<String, String> {
        let record = self.runtime.block_on(self.locks.get(key)).map_err(|error| told(&error))?;
        Ok(record.map_or("absent".into(), |record| {
            let flag = u8::from;
            format!(
                "record {} {} {} {} {}",
                record.owner(),
                record.lease().as_millis(),
                flag(record.is_released()),
                flag(record.is_expired()),
                base64(record.data())
            )
        }))
    }

    /// Each term also writes to a journal that checks the fencing token: a record in another table.
    fn contend(&self, key: &str, hold: Duration, pause: Duration) -> Result<String, String> {
        std::thread::spawn(|| {
            // The end of the input ends the process, also here.
            std::io::stdin().lines().for_each(drop);
            std::process::exit(0);
        });
        self.runtime.block_on(async {
            loop {
                match self.locks.acquire(key).await {
                    Ok(lock) => self.term(lock, hold).await,
                    Err(error) => println!("error {}", told(&error)),
                }
                tokio::time::sleep(pause).await;
            }
        })
    }

    async fn term(&self, lock: Lock, hold: Duration) {
        let start = clock();
        match lock.fencing_token() {
            Ok(token) => {
                println!("from {} {token}", nanos());
                self.append(token).await;
            }
            Err(error) => return println!("error {}", told(&error)),
        }
        while lock.is_valid() && start.elapsed() < hold {
            println!("tick {}", nanos());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        println!("to {}", nanos());
        let _ = lock.release().await;
    }

    /// R6, I4: refused if a higher token has written before.
    async fn append(&self, token: u64) {
        let entry = AttributeValue::N(token.to_string());
        let append = self
            .journal
            .update_item()
            .table_name("journal")
            .key("key", AttributeValue::S("journal".into()))
            .update_expression("SET fence = :token, entries = list_append(if_not_exists(entries, :none), :entry)")
            .condition_expression("attribute_not_exists(fence) OR fence <= :token")
            .expression_attribute_values(":token", entry.clone())
            .expression_attribute_values(":none", AttributeValue::L(Vec::new()))
            .expression_attribute_values(":entry", AttributeValue::L(vec![entry]));
        match append.send().await {
            Ok(_) => println!("journal {token}"),
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                println!("fenced {token}");
            }
            Err(error) => println!("error {error:?}"),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the peer measures real time")]
fn clock() -> Instant {
    Instant::now()
}
