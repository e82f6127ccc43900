//! Fuzz target: settings. A line is a setting, `name value`; durations are whole numbers of `s`, `ms` or `ns`, or `max`;
//! `k*300` stands for three hundred of them.

mod durations;

use std::time::Duration;

use futures::FutureExt;

use super::Elector;
use crate::error::{Error, ErrorKind};
use crate::fuzz::fuzz;
use crate::lock::{Fencing, LockClient};
use crate::store::DataChange;

#[test]
fn settings() {
    const TOKENS: [&str; 44] = [
        "",
        "\n",
        " ",
        "0",
        "1",
        "9",
        "000",
        "s",
        "ms",
        "ns",
        "max",
        "10s",
        "8s",
        "2500ms",
        "2s",
        "999ms",
        "9801980198ns",
        "18446744073709551615s",
        "31622400s",
        "NaN",
        "inf",
        "-0",
        "0.5",
        "1e-300",
        "0.01",
        "lease ",
        "heartbeat ",
        "validity ",
        "operation ",
        "attempt ",
        "poll ",
        "drift ",
        "table ",
        "key ",
        "sort ",
        "sortvalue ",
        "owner ",
        "advertise ",
        "delay ",
        "silence ",
        "\t",
        "\u{7f}",
        "#fence",
        "*2042",
    ];
    fuzz("tests/corpus/settings", &TOKENS, |text| {
        durations::checked(text);
        // Each is slow beside the durations.
        let sets = |names: &[&str]| names.iter().any(|name| value(text, name).is_some());
        if sets(&["table", "partition", "sort", "sortvalue", "owner", "fencing", "deletes"]) {
            client(text);
        }
        if sets(&["key", "keysort", "advertise", "delay", "tenure", "silence", "data", "attribute"]) {
            elector(text);
        }
    });
}

/// The value of the last line of this name.
fn value<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().filter_map(|line| line.split_once(' ')).rfind(|(found, _)| *found == name).map(|(_, value)| value)
}

/// A text, where it is set.
fn words(text: &str, name: &str) -> Option<String> {
    value(text, name).map(|value| match value.rsplit_once('*').map(|(part, count)| (part, count.parse())) {
        Some((part, Ok(count))) => part.repeat(usize::min(count, 5_000)),
        _ => value.to_owned(),
    })
}

fn count(text: &str, name: &str) -> usize {
    value(text, name).and_then(|value| value.parse().ok()).unwrap_or(0).min(500_000)
}

fn duration(text: &str, name: &str) -> Option<Duration> {
    let value = value(text, name)?;
    if value == "max" {
        return Some(Duration::MAX);
    }
    let (number, unit) = value.split_at(value.find(|c: char| !c.is_ascii_digit())?);
    let number: u64 = number.parse().ok()?;
    match unit {
        "s" => Some(Duration::from_secs(number)),
        "ms" => Some(Duration::from_millis(number)),
        "ns" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

fn refused(error: &Error) {
    let message = error.to_string();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{message}");
    assert!(message.len() > 20 && !message.chars().any(char::is_control), "{message:?} garbles a log");
}

fn is_plain(text: &str, most: usize) -> bool {
    !text.is_empty() && text.len() <= most && !text.chars().any(char::is_control)
}

const RECORD: [&str; 9] = [
    "ownerName",
    "leaseDuration",
    "recordVersionNumber",
    "data",
    "isReleased",
    "fencingToken",
    "heartbeatMillis",
    "acquiredAt",
    "stampedVersion",
];

/// A client is built as far as that goes without a network, or says which setting can't be: exactly those of the documentation.
fn client(text: &str) {
    let table = words(text, "table").unwrap_or("locks".into());
    let (partition, sort) = (words(text, "partition"), words(text, "sort"));
    let (sort_value, owner) = (words(text, "sortvalue"), words(text, "owner"));
    let fencing = match value(text, "fencing") {
        Some("off") => Some(Fencing::Off),
        Some("record") => Some(Fencing::Record),
        Some("fence") => Some(Fencing::FenceRecord),
        _ => None,
    };
    let deletes = value(text, "deletes").is_some();
    let sdk = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
        .build();
    let builder = || {
        let mut builder = LockClient::builder(&aws_sdk_dynamodb::Client::from_conf(sdk.clone()), &*table).simulated(1);
        if let Some(name) = &partition {
            builder = builder.partition_key_name(name);
        }
        if let Some(name) = &sort {
            builder = builder.sort_key_name(name);
        }
        if let Some(value) = &sort_value {
            builder = builder.sort_key_value(value);
        }
        if let Some(owner) = &owner {
            builder = builder.owner(owner);
        }
        if let Some(fencing) = fencing {
            builder = builder.fencing(fencing);
        }
        if deletes { builder.delete_on_release() } else { builder }
    };
    let key = partition.as_deref().unwrap_or("key");
    let in_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let is_arn = table.starts_with("arn:") && table.len() <= 1_024;
    let named = (3..=255).contains(&table.len()) && table.chars().all(in_name)
        || is_arn && table.chars().all(|c| in_name(c) || c == ':' || c == '/');
    let is_name = |name: &str| (1..=255).contains(&name.len()) && !RECORD.contains(&name);
    let keyed = is_name(key) && sort.as_deref().is_none_or(|sort| is_name(sort) && sort != key);
    let filled = sort_value.as_deref().is_none_or(|value| sort.is_some() && is_plain(value, 1_024));
    let schema = named && keyed && filled;
    let refusal = builder().table().err();
    assert_eq!(refusal.is_none(), schema, "{refusal:?}");
    refusal.iter().for_each(refused);
    let owned = owner.as_deref().is_none_or(|owner| is_plain(owner, 1_024));
    let can_fence = !deletes || matches!(fencing, None | Some(Fencing::Off));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    // What is sound goes on to its table, which is not answered here.
    match builder().build().now_or_never() {
        Some(result) => {
            assert!(!(schema && owned && can_fence), "{result:?}");
            refused(&result.unwrap_err());
        }
        None => assert!(schema && owned && can_fence, "not refused"),
    }
}

/// An elector is built, or says which setting can't be: keys, and bounds of data and durations.
fn elector(text: &str) {
    thread_local! {
        static CLIENT: (tokio::runtime::Runtime, LockClient) = {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let engine = crate::Embedded::in_memory().unwrap();
            let locks = runtime.block_on(LockClient::embedded(&engine, "locks").simulated(1).build()).unwrap();
            (runtime, locks)
        };
    }
    let key = words(text, "key").unwrap_or("job".into());
    let (key_sort, advertised) = (words(text, "keysort"), count(text, "advertise"));
    let (delay, tenure, silence) = (duration(text, "delay"), duration(text, "tenure"), duration(text, "silence"));
    CLIENT.with(|(runtime, locks)| {
        let _inside = runtime.enter();
        let mut builder = match &key_sort {
            Some(sort) => Elector::builder(locks, (&*key, &**sort)),
            None => Elector::builder(locks, &*key),
        };
        builder = builder.advertise(vec![b'x'; advertised]).campaign_delay(delay.unwrap_or_default());
        if let Some(tenure) = tenure {
            builder = builder.max_tenure(tenure);
        }
        if let Some(silence) = silence {
            builder = builder.step_down_when_silent(silence);
        }
        // 2,048 of DynamoDB, less the ending of a fence record.
        let keyed = is_plain(&key, 2_042) && !key.ends_with("#fence") && key_sort.is_none();
        let bounded = advertised <= 4_096
            && delay.is_none_or(|delay| delay <= Duration::from_secs(3_600))
            && tenure.is_none_or(|tenure| tenure >= Duration::from_secs(10))
            && silence.is_none_or(|silence| silence >= Duration::from_secs(2));
        let refusal = builder.build().err();
        assert_eq!(refusal.is_none(), keyed && bounded, "{refusal:?}");
        refusal.iter().for_each(refused);
        // What is stored with a lock: less than an item of DynamoDB, under a name that is nobody else's.
        let (size, name) = (count(text, "data"), words(text, "attribute").unwrap_or("team".into()));
        let attribute = (name.clone(), aws_sdk_dynamodb::types::AttributeValue::Bool(true));
        let content = locks.context().store.check_content(&DataChange::Set(vec![0; size]), &[attribute]);
        let is_name = (1..=255).contains(&name.len()) && name != "key" && !RECORD.contains(&&*name);
        assert_eq!(content.is_ok(), size < 400 * 1_024 && is_name, "{content:?}");
        content.err().iter().for_each(refused);
    });
}
