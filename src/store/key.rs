//! Names of the table and its keys, checked before anything is sent.

use std::fmt;

use super::record::attribute;
use crate::error::{Error, ErrorKind};

/// DynamoDB's limit for a partition key, less the suffix of the fence record that may stand beside it.
const MAX_PARTITION: usize = 2_048 - FENCE_SUFFIX.len();
const MAX_SORT: usize = 1_024;
/// Keys of fence records end like this; nothing else may.
const FENCE_SUFFIX: &str = "#fence";

/// The table and the names of its key attributes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Schema {
    pub(crate) table: String,
    pub(crate) partition_key: String,
    pub(crate) sort_key: Option<String>,
    /// The sort key's value where a key names none.
    pub(crate) sort_value: Option<String>,
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

impl Schema {
    pub(crate) fn new(
        table: String,
        partition_key: String,
        sort_key: Option<String>,
        sort_value: Option<String>,
    ) -> Result<Self, Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let fits = (3..=255).contains(&table.len()) && table.bytes().all(plain);
        let in_arn = |byte: u8| plain(byte) || matches!(byte, b':' | b'/');
        let is_arn = table.starts_with("arn:") && table.len() <= 1_024 && table.bytes().all(in_arn);
        if !(fits || is_arn) {
            return Err(invalid(format!(
                "{table:?} is no table name: use 3 to 255 letters, digits, '_', '.' or '-', or the table's ARN"
            )));
        }
        for name in std::iter::once(&partition_key).chain(&sort_key) {
            if name.is_empty() || name.len() > 255 {
                return Err(invalid(format!("{name:?} is no key attribute name: use 1 to 255 bytes")));
            }
            if attribute::ALL.contains(&name.as_str()) {
                return Err(invalid(format!("{name:?} can't be a key attribute: the lock record uses that name")));
            }
        }
        if sort_key.as_ref() == Some(&partition_key) {
            return Err(invalid(format!(
                "partition and sort key are both called {partition_key:?}: give each its name"
            )));
        }
        match (&sort_key, &sort_value) {
            (None, Some(_)) => {
                return Err(invalid("sort_key_value is set, but the client has no sort_key_name: set both".into()));
            }
            (Some(_), Some(value)) => check("sort key", value, MAX_SORT)?,
            (_, None) => {}
        }
        Ok(Self { table, partition_key, sort_key, sort_value })
    }

    /// Checks a key of a lock, and fills in what the client's settings say of it.
    pub(crate) fn key(&self, key: Key) -> Result<Key, Error> {
        let Key { partition, sort } = key;
        check_partition(&partition)?;
        let sort = sort.or_else(|| self.sort_value.clone());
        match (&self.sort_key, &sort) {
            (Some(name), None) => {
                return Err(invalid(format!("table {} has the sort key {name:?}: give its value too", self.table)));
            }
            (None, Some(_)) => {
                return Err(invalid("a sort key value was given, but the client has no sort_key_name".into()));
            }
            (Some(_), Some(value)) => check("sort key", value, MAX_SORT)?,
            (None, None) => {}
        }
        Ok(Key { partition, sort })
    }

    /// The names of additional attributes must be nobody else's.
    pub(crate) fn check_attribute(&self, name: &str) -> Result<(), Error> {
        const MAX_NAME: usize = 255;
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(invalid(format!("{name:?} is no attribute name: use 1 to {MAX_NAME} bytes")));
        }
        let is_key = name == self.partition_key || self.sort_key.as_deref() == Some(name);
        if is_key || attribute::ALL.contains(&name) {
            return Err(invalid(format!(
                "{name:?} can't be an additional attribute: the lock record uses that name, choose another"
            )));
        }
        Ok(())
    }

    /// Whether `name` is none of the key's nor of the lock record's.
    pub(crate) fn is_additional(&self, name: &str) -> bool {
        self.check_attribute(name).is_ok()
    }
}

/// Whether a partition key is that of a fence record.
pub(crate) fn is_fence(partition: &str) -> bool {
    partition.ends_with(FENCE_SUFFIX)
}

/// Checks the partition key of a lock, or of many.
pub(crate) fn check_partition(partition: &str) -> Result<(), Error> {
    check("key", partition, MAX_PARTITION)?;
    if is_fence(partition) {
        return Err(invalid(format!("the key {partition:?} ends in {FENCE_SUFFIX:?}: such keys are reserved")));
    }
    Ok(())
}

fn check(what: &str, value: &str, max: usize) -> Result<(), Error> {
    if value.is_empty() {
        return Err(invalid(format!("the {what} is empty: name the lock or election")));
    }
    if value.len() > max {
        return Err(invalid(format!("the {what} has {} bytes: at most {max}", value.len())));
    }
    if value.chars().any(char::is_control) {
        return Err(invalid(format!(
            "the {what} {value:?} has control characters: they would garble logs and metrics"
        )));
    }
    Ok(())
}

/// Names one lock: the partition key of its record and, in a table that has a sort key, that one's value.
///
/// Made from text, or from a pair of texts. Clients with a
/// [`sort_key_value`](crate::LockClientBuilder::sort_key_value) add theirs to keys that have none.
///
/// ```
/// use dynamo_elector::Key;
///
/// assert_eq!(Key::from("job"), Key::new("job"));
/// assert_eq!(Key::from(("job", "part-1")), Key::new("job").sort("part-1"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    partition: String,
    sort: Option<String>,
}

impl Key {
    /// A key without a sort key value.
    pub fn new(partition: impl Into<String>) -> Self {
        Self { partition: partition.into(), sort: None }
    }

    /// The same partition key with this sort key value.
    #[must_use]
    pub fn sort(mut self, value: impl Into<String>) -> Self {
        self.sort = Some(value.into());
        self
    }

    /// The partition key.
    pub fn partition(&self) -> &str {
        &self.partition
    }

    /// The sort key's value.
    pub fn sort_value(&self) -> Option<&str> {
        self.sort.as_deref()
    }

    /// The key of the fence record that stands beside this lock's record.
    pub(crate) fn fence(&self) -> Self {
        Self { partition: format!("{}{FENCE_SUFFIX}", self.partition), sort: self.sort.clone() }
    }
}

impl From<&str> for Key {
    fn from(partition: &str) -> Self {
        Self::new(partition)
    }
}

impl From<String> for Key {
    fn from(partition: String) -> Self {
        Self::new(partition)
    }
}

impl From<&String> for Key {
    fn from(partition: &String) -> Self {
        Self::new(partition)
    }
}

impl From<&Key> for Key {
    fn from(key: &Key) -> Self {
        key.clone()
    }
}

impl<P: Into<String>, S: Into<String>> From<(P, S)> for Key {
    fn from((partition, sort): (P, S)) -> Self {
        Self::new(partition).sort(sort)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sort {
            Some(sort) => write!(f, "{}/{sort}", self.partition),
            None => f.write_str(&self.partition),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::new("locks".into(), "key".into(), None, None).unwrap()
    }

    #[test]
    fn keys_that_can_not_work_are_refused_with_a_reason() {
        for (key, word) in [
            (String::new(), "empty"),
            ("k".repeat(2_043), "2042"),
            ("tab\there".into(), "control"),
            ("billing#fence".into(), "reserved"),
        ] {
            let error = schema().key(Key::new(key)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(schema().key(Key::new("k".repeat(2_042))).is_ok());
        assert!(schema().key(Key::from(("k", "s"))).is_err());
    }

    #[test]
    fn the_clients_sort_key_value_serves_keys_without_one() {
        let sorted = Schema::new("locks".into(), "key".into(), Some("part".into()), Some("all".into())).unwrap();
        assert_eq!(sorted.key(Key::new("k")).unwrap().sort_value(), Some("all"));
        assert_eq!(sorted.key(Key::from(("k", "s"))).unwrap().sort_value(), Some("s"));
        assert!(Schema::new("locks".into(), "key".into(), None, Some("all".into())).is_err());
    }

    #[test]
    fn tables_and_key_names_that_can_not_work_are_refused() {
        let new = |table: &str, key: &str, sort: Option<&str>| {
            Schema::new(table.into(), key.into(), sort.map(str::to_owned), None)
        };
        assert!(new("no spaces", "key", None).is_err());
        assert!(new("arn:aws:dynamodb:eu-west-1:1:table/locks\n", "key", None).is_err(), "it would garble logs");
        assert!(new("locks", "ownerName", None).is_err());
        assert!(new("locks", "key", Some("key")).is_err());
        assert!(new("arn:aws:dynamodb:eu-west-1:1:table/locks", "key", None).is_ok());
    }

    #[test]
    fn additional_attributes_take_no_name_of_the_record() {
        for name in attribute::ALL.into_iter().chain(["key", ""]) {
            assert!(schema().check_attribute(name).is_err(), "{name}");
        }
        assert!(schema().check_attribute("team").is_ok());
    }
}
