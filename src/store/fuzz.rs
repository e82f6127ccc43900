//! Fuzz targets: the duration texts and the record's codec. A record is written as in [`item`].

mod errors;

use std::time::Duration;

use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;

use super::duration_text::parse;
use super::expression::Expression;
use super::operator::{mend, retired};
use super::record::{Item, attribute, lease_of, stamp};
use super::{DurationText, Fill, Found, Key, LockRecord, Schema, TokenChange};
use crate::fuzz::fuzz;
use crate::protocol::{Plan, Version, Write, WriteKind, Writer};
use crate::timing::{MAX_LEASE, MIN_LEASE};

#[test]
fn durations() {
    const TOKENS: [&str; 20] = [
        "",
        "0",
        "1",
        "9",
        "10",
        ".",
        "+",
        "-",
        " ",
        "h",
        "m",
        "s",
        "ms",
        "us",
        "ns",
        "\u{b5}s",
        "\u{3bc}s",
        "d",
        "9223372036854775807",
        "00000000",
    ];
    fuzz("tests/corpus/durations", &TOKENS, duration);
}

#[test]
fn records() {
    const TOKENS: [&str; 24] = [
        "",
        "\n",
        " ",
        "0",
        "1",
        "-",
        ".",
        ":",
        "e",
        "s",
        " S ",
        " N ",
        " B ",
        " BOOL ",
        " NULL ",
        "1:",
        "2:",
        "isReleased S 1\n",
        "data B 00ff\n",
        "fencingToken N 7\n",
        "heartbeatMillis N 2500\n",
        "stampedVersion S 1:v1\n",
        "recordVersionNumber S v1\n",
        "team S blue\n",
    ];
    fuzz("tests/corpus/records", &TOKENS, record);
}

/// A duration that is read is the one that is written there, and comes back from either text.
fn duration(text: &str) {
    let Some((duration, kind)) = parse(text) else { return };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    assert_eq!(kind == DurationText::JavaMillis, digits, "{text:?}");
    let expected = if digits { text.parse::<f64>().unwrap() / 1_000.0 } else { seconds(text) };
    let error = (duration.as_secs_f64() - expected).abs();
    assert!(error <= 1e-7 + expected * 1e-12, "{text:?} is {duration:?}");
    assert_eq!(parse(&kind.format(duration)), Some((duration, kind)), "{text:?}");
    if duration.as_nanos() <= u128::from(i64::MAX.unsigned_abs()) {
        assert_eq!(parse(&DurationText::Go.format(duration)), Some((duration, DurationText::Go)), "{text:?}");
    }
    let millis = Duration::from_millis(u64::try_from(duration.as_millis()).unwrap());
    let java = DurationText::JavaMillis.format(duration);
    assert_eq!(parse(&java), Some((millis, DurationText::JavaMillis)), "{text:?}");
}

/// What a text means that Go accepts, calculated another way.
fn seconds(text: &str) -> f64 {
    let number = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = text.trim_start_matches('+');
    let mut sum = 0.0;
    while !rest.is_empty() {
        let (value, after) = rest.split_at(rest.find(|c| !number(c)).unwrap_or(rest.len()));
        let (unit, after) = after.split_at(after.find(number).unwrap_or(after.len()));
        let scale = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "ns" => 1e-9,
            "" => 0.0,
            _ => 1e-6,
        };
        sum += value.parse::<f64>().unwrap() * scale;
        rest = after;
    }
    sum
}

/// One attribute a line, `name kind value`; of the kinds S, N, B (in hexadecimal), BOOL and NULL. A line that is none is left out.
fn item(text: &str) -> Item {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<(String, AttributeValue)> {
    let (name, rest) = line.split_once(' ')?;
    let (kind, value) = rest.split_once(' ').unwrap_or((rest, ""));
    let value = match kind {
        "S" => AttributeValue::S(value.to_owned()),
        "N" => AttributeValue::N(value.to_owned()),
        "B" => {
            let digits = value.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).ok());
            let bytes = digits.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<Vec<u8>>>()?;
            AttributeValue::B(Blob::new(bytes))
        }
        "BOOL" => AttributeValue::Bool(value == "true"),
        "NULL" => AttributeValue::Null(true),
        _ => return None,
    };
    Some((name.to_owned(), value))
}

fn decode(item: &Item) -> Found {
    let schema = Schema::new("locks".into(), "key".into(), None, None).unwrap();
    Found::from_item(Some(item), &Key::new("job"), &schema)
}

fn decoded(item: &Item, why: &str) -> LockRecord {
    match decode(item) {
        Found::Record(record) => *record,
        other => panic!("{why}: {other:?} of {item:?}"),
    }
}

fn record(text: &str) {
    let item = item(text);
    match decode(&item) {
        Found::Absent => panic!("{item:?} is not absent"),
        Found::Malformed(_) => mended(&item),
        Found::Record(record) => {
            sound(&item, &record);
            held(&item, &record);
            released_by_an_operator(&item, &record);
        }
    }
}

/// What is read is what stands there, within its bounds.
fn sound(item: &Item, record: &LockRecord) {
    assert!(!record.version().is_empty() && !record.owner().is_empty(), "{record:?}");
    assert_eq!(item[attribute::VERSION], AttributeValue::S(record.version().into()));
    assert_eq!(item[attribute::OWNER], AttributeValue::S(record.owner().into()));
    assert!((MIN_LEASE..=MAX_LEASE).contains(&record.lease()), "{record:?}");
    assert!(record.lease() >= lease_of(item).unwrap().0, "a lease is never lowered: {record:?}");
    assert_eq!(record.is_released(), item.contains_key(attribute::RELEASED));
    assert_eq!(record.data(), item.get(attribute::DATA).map(|data| data.as_b().unwrap().as_ref()));
    let ours = item.get(attribute::STAMP) == Some(&AttributeValue::S(stamp(&record.version)));
    assert_eq!(record.writer() == Writer::Ours, ours, "{record:?}");
    assert!(ours || record.fencing_token().is_none() && record.heartbeat().is_none(), "not believed: {record:?}");
    assert!(record.sighting().token.is_none_or(|token| token <= 1 << 62), "{record:?}");
    let own = |name: &String| name == "key" || attribute::ALL.contains(&name.as_str());
    let additional = item.iter().filter(|(name, _)| !own(name) && !name.is_empty() && name.len() <= 255);
    assert_eq!(record.attributes().iter().collect::<Vec<_>>().len(), additional.clone().count());
    assert!(additional.into_iter().all(|(name, value)| record.attributes().get(name) == Some(value)));
}

/// Does to an item what DynamoDB would.
fn apply(item: &Item, expression: &Expression) -> Item {
    let mut item = item.clone();
    let update = expression.update.strip_prefix("SET ").unwrap();
    let (set, remove) = update.split_once(" REMOVE ").unwrap_or((update, ""));
    for assignment in set.split(", ") {
        let (name, value) = assignment.split_once(" = ").unwrap();
        item.insert(expression.names[name].clone(), expression.values[value].clone());
    }
    for name in remove.split(", ").filter(|name| !name.is_empty()) {
        item.remove(&expression.names[name]);
    }
    item
}

/// Whoever acquires it, renews it and releases it leaves a record of ours that says what was written, and keeps the rest.
fn held(item: &Item, record: &LockRecord) {
    let beats = Some(Duration::from_millis(2_500));
    let found = record.sighting().token;
    // One that can't be read is never kept: behind our stamp it would be damage.
    let kept = if found.is_some() { TokenChange::Keep } else { TokenChange::Forget };
    for (heartbeat, change) in
        [(beats, TokenChange::Set), (None, TokenChange::Set), (beats, kept), (None, TokenChange::Forget)]
    {
        let token = found.unwrap_or(0) + 1;
        let fill = Fill { text: record.duration_text(), token: change, ..Fill::plain() };
        let mut item = item.clone();
        for (kind, version) in
            [(WriteKind::Claim { token }, "claim"), (WriteKind::Renew, "renewal"), (WriteKind::Release, "release")]
        {
            let version = Version::new(version);
            let names = [record.version.clone(), version.clone()].into_iter().collect();
            let lease = Duration::from_millis(u64::try_from(record.lease().as_millis()).unwrap());
            let plan = Plan { heartbeat, ending: heartbeat.filter(|_| kind == WriteKind::Renew) };
            let write = Write { kind, version: version.clone(), names, or_absent: false, lease, plan };
            item = apply(&item, &Expression::of(&write, &fill, "key"));
            let now = decoded(&item, "what we write reads back");
            sound(&item, &now);
            assert_eq!((now.writer(), &now.version, now.owner()), (Writer::Ours, &version, "me"));
            assert_eq!((now.lease(), now.duration_text()), (lease, record.duration_text()));
            let expected = match change {
                TokenChange::Set => Some(token),
                TokenChange::Keep => found,
                TokenChange::Forget => None,
            };
            assert_eq!((now.fencing_token(), now.heartbeat()), (expected, heartbeat));
            let announced = heartbeat.filter(|_| !matches!(kind, WriteKind::Claim { .. }));
            assert_eq!(now.ending(), announced, "until the next holder");
            assert_eq!(now.is_released(), version.as_str() == "release");
            assert_eq!((now.data(), now.attributes()), (record.data(), record.attributes()));
        }
    }
}

/// An operator's mark changes nothing but who holds it, and leaves nobody's attributes believed that were not.
fn released_by_an_operator(item: &Item, record: &LockRecord) {
    if record.writer() == Writer::Newer {
        return; // Refused before.
    }
    let (release, retire) = (Version::new("release"), Version::new("retire"));
    let anew = (record.writer() == Writer::Foreign).then_some(&release);
    let item = apply(item, &Expression::force_release(&record.version, anew));
    let released = decoded(&item, "what an operator releases reads back");
    sound(&item, &released);
    assert!(released.is_released() && released.writer() == record.writer());
    assert_eq!((released.lease(), released.owner(), released.data()), (record.lease(), record.owner(), record.data()));
    assert_eq!((released.attributes(), released.sighting().token), (record.attributes(), record.sighting().token));
    let item = apply(&item, &Expression::retire(&released.version, released.writer(), &retire, &retired(&released)));
    let retired = decoded(&item, "what an operator retires reads back");
    sound(&item, &retired);
    assert!(retired.is_released() && retired.attributes().is_empty() && retired.data().is_none());
    assert_eq!(retired.sighting().token, record.sighting().token, "the floor stays");
    assert_eq!(retired.writer(), record.writer(), "and is vouched for only if it was");
}

/// Whatever stands under a key can be made a lock record again.
fn mended(item: &Item) {
    for floor in [0, 7] {
        let mend = mend(item, "10s".into(), floor);
        let repaired = apply(item, &Expression::repair(&mend, &Version::new("repaired"), "key"));
        let now = decoded(&repaired, "what is repaired reads back");
        sound(&repaired, &now);
        assert!(now.is_released() && now.writer() == Writer::Ours);
        assert!(now.fencing_token().unwrap_or(0) >= floor);
    }
}
