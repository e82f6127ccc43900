//! The record, byte by byte. Reading is tolerant, writing is exact.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;

use super::duration_text::{DurationText, parse};
use super::key::{Key, Schema};
use crate::error::{Error, ErrorKind};
use crate::protocol::{Plan, Seen, Sighting, Version, Writer};
use crate::timing::{MAX_LEASE, MIN_LEASE};

/// The names of the record's attributes.
pub(crate) mod attribute {
    pub(crate) const OWNER: &str = "ownerName";
    pub(crate) const LEASE: &str = "leaseDuration";
    pub(crate) const VERSION: &str = "recordVersionNumber";
    pub(crate) const DATA: &str = "data";
    pub(crate) const RELEASED: &str = "isReleased";
    pub(crate) const TOKEN: &str = "fencingToken";
    pub(crate) const HEARTBEAT: &str = "heartbeatMillis";
    pub(crate) const ENDING: &str = "endingMillis";
    pub(crate) const ACQUIRED_AT: &str = "acquiredAt";
    pub(crate) const STAMP: &str = "stampedVersion";
    /// Reserved: no key and no additional attribute may be called like one of these.
    pub(crate) const ALL: [&str; 10] =
        [OWNER, LEASE, VERSION, DATA, RELEASED, TOKEN, HEARTBEAT, ENDING, ACQUIRED_AT, STAMP];
}

/// The number of our format, before the colon in `stampedVersion`.
const FORMAT: &str = "1";

/// `stampedVersion` for a version of ours.
pub(crate) fn stamp(version: &Version) -> String {
    format!("{FORMAT}:{}", version.as_str())
}

/// A number that no count of terms reaches: who writes one forges it, and rising above it would soon not be possible.
const MAX_TOKEN: u64 = 1 << 62;

pub(super) type Item = HashMap<String, AttributeValue>;

/// A lock record as it was read.
#[derive(Clone, PartialEq)]
pub struct LockRecord {
    key: Key,
    owner: String,
    pub(super) version: Version,
    lease: Duration,
    text: DurationText,
    released: bool,
    data: Option<Vec<u8>>,
    writer: Writer,
    token: Option<u64>,
    plan: Plan,
    acquired_at: Option<String>,
    attributes: BTreeMap<String, AttributeValue>,
    unchanged_for: Duration,
    waits: Duration,
}

impl LockRecord {
    /// Its key.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Who holds it, or held it last.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The holder's payload.
    pub fn data(&self) -> Option<&[u8]> {
        self.data.as_deref()
    }

    /// The version: new in every write.
    pub fn version(&self) -> &str {
        self.version.as_str()
    }

    /// How long a follower waits on an unchanged version before it may take over.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// Whether its holder has let go of it.
    pub fn is_released(&self) -> bool {
        self.released
    }

    /// The number of the term; `None` if another kind of client wrote the record last.
    pub fn fencing_token(&self) -> Option<u64> {
        self.token.filter(|_| self.writer == Writer::Ours)
    }

    /// For how long this client has known this very version: zero at first sight, and in listings of
    /// what it does not follow.
    pub fn unchanged_for(&self) -> Duration {
        self.unchanged_for
    }

    /// Whether nobody holds it any more, as far as this client can know: it is released, or has not changed for its
    /// whole lease (and a quarter more for clients of another make) *while this client knew it*.
    ///
    /// At first sight a record is never expired, whoever wrote it: it may have been renewed a moment ago.
    pub fn is_expired(&self) -> bool {
        self.released || self.unchanged_for >= self.waits
    }

    /// The additional attributes: everything in the record that is neither its key nor the lock's own.
    pub fn attributes(&self) -> &BTreeMap<String, AttributeValue> {
        &self.attributes
    }

    /// How often its holder renews, if it says so.
    pub fn heartbeat(&self) -> Option<Duration> {
        self.plan.heartbeat
    }

    /// How long after this was written its holder lets go of it, at the earliest, if it has announced that.
    pub fn ending(&self) -> Option<Duration> {
        self.plan.ending
    }

    /// When its holder acquired it, by that machine's wall clock: for people.
    pub fn acquired_at(&self) -> Option<&str> {
        self.acquired_at.as_deref()
    }

    /// Which text its lease is written in.
    pub fn duration_text(&self) -> DurationText {
        self.text
    }

    pub(crate) fn writer(&self) -> Writer {
        self.writer
    }

    /// R14: what a newer format means by its attributes is not known here.
    pub(crate) fn obstacle(&self) -> Option<Error> {
        let message = || {
            format!("the record under {} was written by a newer version of this crate: upgrade this process", self.key)
        };
        (self.writer == Writer::Newer).then(|| Error::new(ErrorKind::NewerFormat, message()))
    }

    /// What the client knows of it: for how long, and how long it would wait for it.
    pub(crate) fn set_known(&mut self, unchanged_for: Duration, waits: Duration) {
        (self.unchanged_for, self.waits) = (unchanged_for, waits);
    }

    pub(crate) fn sighting(&self) -> Sighting {
        Sighting {
            version: self.version.clone(),
            lease: self.lease,
            released: self.released,
            writer: self.writer,
            token: self.token,
            plan: self.plan,
        }
    }
}

impl fmt::Debug for LockRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Data may be anything, secrets included: its length only.
        f.debug_struct("LockRecord")
            .field("key", &self.key)
            .field("owner", &self.owner)
            .field("version", &self.version)
            .field("lease", &self.lease)
            .field("released", &self.released)
            .field("data_bytes", &self.data.as_ref().map(Vec::len))
            .field("fencing_token", &self.fencing_token())
            .finish_non_exhaustive()
    }
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Malformed {
    attribute: &'static str,
    problem: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attribute {} {}", self.attribute, self.problem)
    }
}

/// What stands under a key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Found {
    Absent,
    Malformed(Malformed),
    Record(Box<LockRecord>),
}

impl Found {
    /// What stands under `key` in a table of this schema.
    pub(crate) fn from_item(item: Option<&Item>, key: &Key, schema: &Schema) -> Self {
        match item.map(|item| decode(item, key, schema)) {
            None => Self::Absent,
            Some(Ok(record)) => Self::Record(Box::new(record)),
            Some(Err(malformed)) => Self::Malformed(malformed),
        }
    }

    /// R14: what is never taken over, said to whoever waits for it.
    pub(crate) fn obstacle(&self, key: &Key) -> Option<Error> {
        match self {
            Self::Malformed(what) => Some(Error::new(
                ErrorKind::MalformedRecord,
                format!(
                    "the record under {key} is not a lock record ({what}): it is left alone; repair it, or choose another key"
                ),
            )),
            Self::Record(record) => record.obstacle(),
            Self::Absent => None,
        }
    }

    pub(crate) fn seen(&self) -> Seen {
        match self {
            Self::Absent => Seen::Absent,
            Self::Malformed(_) => Seen::Malformed,
            Self::Record(record) => Seen::Record(record.sighting()),
        }
    }
}

pub(super) fn text<'a>(item: &'a Item, attribute: &'static str) -> Result<&'a str, Malformed> {
    match item.get(attribute) {
        Some(AttributeValue::S(text)) if !text.is_empty() => Ok(text),
        Some(AttributeValue::S(_)) => Err(Malformed { attribute, problem: "is empty" }),
        Some(_) => Err(Malformed { attribute, problem: "is not text" }),
        None => Err(Malformed { attribute, problem: "is missing" }),
    }
}

/// Which key an item of a listing stands under, if its key is text.
pub(super) fn key_of(item: &Item, schema: &Schema) -> Option<Key> {
    let text = |name: &String| item.get(name)?.as_s().ok().cloned();
    let key = Key::new(text(&schema.partition_key)?);
    match &schema.sort_key {
        Some(name) => Some(key.sort(text(name)?)),
        None => Some(key),
    }
}

fn decode(item: &Item, key: &Key, schema: &Schema) -> Result<LockRecord, Malformed> {
    use attribute as a;
    let version = Version::new(text(item, a::VERSION)?);
    let owner = text(item, a::OWNER)?.to_owned();
    let (lease, duration_text) = lease_of(item)?;
    let data = match item.get(a::DATA) {
        None => None,
        Some(AttributeValue::B(data)) => Some(data.as_ref().to_vec()),
        Some(_) => return Err(Malformed { attribute: a::DATA, problem: "is not binary" }),
    };
    let writer = writer(item, &version);
    // What a foreign client left in our attributes may be stale: believed only behind our stamp.
    let ours = writer == Writer::Ours;
    let token = if ours { token(item)? } else { token(item).unwrap_or(None) };
    let attributes = item.iter().filter(|(name, _)| schema.is_additional(name));
    let lease = lease.max(MIN_LEASE);
    Ok(LockRecord {
        key: key.clone(),
        owner,
        version,
        lease,
        text: duration_text,
        // Judged by presence: whatever its value or type, its holder has let go.
        released: item.contains_key(a::RELEASED),
        data,
        writer,
        token,
        plan: if ours { plan(item)? } else { Plan::default() },
        acquired_at: if ours { text(item, a::ACQUIRED_AT).ok().map(str::to_owned) } else { None },
        attributes: attributes.map(|(name, value)| (name.clone(), value.clone())).collect(),
        unchanged_for: Duration::ZERO,
        waits: lease,
    })
}

/// The lease as it is written, before it is raised to the least that makes sense.
pub(super) fn lease_of(item: &Item) -> Result<(Duration, DurationText), Malformed> {
    let attribute = attribute::LEASE;
    let parsed = parse(text(item, attribute)?).ok_or(Malformed { attribute, problem: "is no duration" })?;
    if parsed.0 > MAX_LEASE {
        return Err(Malformed { attribute, problem: "is longer than any lease" });
    }
    Ok(parsed)
}

/// The token, whoever wrote it.
pub(super) fn token(item: &Item) -> Result<Option<u64>, Malformed> {
    let token = number(item, attribute::TOKEN)?;
    if token.is_some_and(|token| token > MAX_TOKEN) {
        return Err(Malformed { attribute: attribute::TOKEN, problem: "is larger than any token can be" });
    }
    Ok(token)
}

/// What the holder plans, whoever wrote it.
fn plan(item: &Item) -> Result<Plan, Malformed> {
    Ok(Plan { heartbeat: millis(item, attribute::HEARTBEAT)?, ending: millis(item, attribute::ENDING)? })
}

/// A span of time, if there is one.
pub(super) fn millis(item: &Item, attribute: &'static str) -> Result<Option<Duration>, Malformed> {
    Ok(number(item, attribute)?.map(Duration::from_millis))
}

fn number(item: &Item, attribute: &'static str) -> Result<Option<u64>, Malformed> {
    match item.get(attribute) {
        None => Ok(None),
        Some(AttributeValue::N(digits)) => {
            digits.parse().map(Some).map_err(|_| Malformed { attribute, problem: "is no whole number" })
        }
        Some(_) => Err(Malformed { attribute, problem: "is not a number" }),
    }
}

/// A stamp that repeats the version: the last writer was this crate. Any other: a foreign client wrote
/// since, or always has.
pub(super) fn writer(item: &Item, version: &Version) -> Writer {
    let stamp = item.get(attribute::STAMP).and_then(|stamp| stamp.as_s().ok());
    match stamp.and_then(|stamp| stamp.split_once(':')) {
        Some((format, copy)) if copy == version.as_str() => {
            if format == FORMAT {
                Writer::Ours
            } else {
                Writer::Newer
            }
        }
        Some(_) | None => Writer::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_dynamodb::primitives::Blob;
    use proptest::prelude::*;

    use super::*;

    fn s(text: &str) -> AttributeValue {
        AttributeValue::S(text.into())
    }

    fn item(extra: &[(&str, AttributeValue)]) -> Item {
        let mut item: Item =
            [("key", s("k")), ("ownerName", s("me")), ("leaseDuration", s("10s")), ("recordVersionNumber", s("v1"))]
                .into_iter()
                .chain(extra.iter().cloned())
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
        item.retain(|_, value| *value != AttributeValue::Null(true));
        item
    }

    fn schema() -> Schema {
        Schema::new("locks".into(), "key".into(), None, None).unwrap()
    }

    fn decode(item: &Item) -> Result<LockRecord, Malformed> {
        super::decode(item, &Key::new("k"), &schema())
    }

    fn record(extra: &[(&str, AttributeValue)]) -> LockRecord {
        decode(&item(extra)).unwrap()
    }

    #[test]
    fn a_stamp_that_repeats_the_version_makes_our_attributes_believable() {
        let ours = record(&[("stampedVersion", s("1:v1")), ("fencingToken", AttributeValue::N("7".into()))]);
        assert_eq!((ours.writer(), ours.fencing_token()), (Writer::Ours, Some(7)));
        let stale = record(&[("stampedVersion", s("1:v0")), ("fencingToken", AttributeValue::N("7".into()))]);
        assert_eq!((stale.writer(), stale.fencing_token()), (Writer::Foreign, None));
        assert!(stale.sighting().token == Some(7), "a floor all the same");
        assert_eq!(record(&[("stampedVersion", s("2:v1"))]).writer(), Writer::Newer);
        assert_eq!(record(&[]).writer(), Writer::Foreign);
    }

    #[test]
    fn records_of_go_and_java_are_read() {
        let go =
            record(&[("recordVersionNumber", s("1795470662840468952:BOI4NYW5JMH3YZQ")), ("leaseDuration", s("3s"))]);
        assert_eq!((go.lease(), go.duration_text()), (Duration::from_secs(3), DurationText::Go));
        let java = record(&[("leaseDuration", s("20000")), ("isReleased", s("1"))]);
        assert_eq!(
            (java.lease(), java.duration_text(), java.is_released()),
            (Duration::from_secs(20), DurationText::JavaMillis, true)
        );
        let odd = record(&[("isReleased", AttributeValue::Bool(false))]);
        assert!(odd.is_released(), "judged by presence");
    }

    #[test]
    fn a_forged_lease_is_raised_or_refused_never_lowered() {
        assert_eq!(record(&[("leaseDuration", s("0s"))]).lease(), MIN_LEASE);
        assert_eq!(record(&[("leaseDuration", s("1ns"))]).lease(), MIN_LEASE);
        for text in ["2562047h47m16.854775807s", "9223372036854775808", "9223372036854775807"] {
            assert!(decode(&item(&[("leaseDuration", s(text))])).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_lock_record_is_malformed_and_named() {
        for (name, value, word) in [
            ("ownerName", AttributeValue::Null(true), "missing"),
            ("leaseDuration", AttributeValue::N("10".into()), "not text"),
            ("recordVersionNumber", s(""), "empty"),
            ("data", s("text"), "binary"),
            ("leaseDuration", s("soon"), "no duration"),
        ] {
            let malformed = decode(&item(&[(name, value)])).unwrap_err().to_string();
            assert!(malformed.contains(name) && malformed.contains(word), "{malformed}");
        }
    }

    #[test]
    fn a_forged_token_is_malformed_behind_our_stamp_and_no_floor_elsewhere() {
        let forged = ("fencingToken", AttributeValue::N(u64::MAX.to_string()));
        assert!(decode(&item(&[("stampedVersion", s("1:v1")), forged.clone()])).is_err());
        assert_eq!(record(&[forged]).sighting().token, None);
        assert_eq!(record(&[("fencingToken", s("seven"))]).sighting().token, None);
    }

    #[test]
    fn what_is_nobody_elses_is_an_additional_attribute() {
        let record = record(&[("team", s("blue")), ("fencingToken", AttributeValue::N("7".into()))]);
        assert_eq!(record.attributes().iter().collect::<Vec<_>>(), [(&"team".to_owned(), &s("blue"))]);
    }

    #[test]
    fn debug_output_shows_no_data() {
        let record = record(&[("data", AttributeValue::B(Blob::new(b"secret".to_vec())))]);
        assert_eq!(record.data(), Some(&b"secret"[..]));
        assert!(!format!("{record:?}").contains("secret"));
    }

    fn any_value() -> impl Strategy<Value = AttributeValue> {
        prop_oneof![
            any::<String>().prop_map(AttributeValue::S),
            "[0-9]{1,20}(s|m|h|ms)?".prop_map(AttributeValue::S),
            any::<String>().prop_map(AttributeValue::N),
            any::<Vec<u8>>().prop_map(|bytes| AttributeValue::B(Blob::new(bytes))),
            any::<bool>().prop_map(AttributeValue::Bool),
        ]
    }

    proptest! {
        #[test]
        fn no_item_makes_the_decoder_panic_or_invent_a_version(
            item in prop::collection::hash_map(prop::sample::select(&attribute::ALL[..]).prop_map(str::to_owned), any_value(), 0..9)
        ) {
            if let Found::Record(record) = Found::from_item(Some(&item), &Key::new("k"), &schema()) {
                prop_assert!(!record.version().is_empty());
                prop_assert!((MIN_LEASE..=MAX_LEASE).contains(&record.lease()));
            }
        }
    }
}
