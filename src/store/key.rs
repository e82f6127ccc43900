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
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

impl Schema {
    pub(crate) fn new(table: String, partition_key: String, sort_key: Option<String>) -> Result<Self, Error> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
        let fits = (3..=255).contains(&table.len()) && table.bytes().all(plain);
        let is_arn = table.starts_with("arn:") && table.len() <= 1_024;
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
        Ok(Self { table, partition_key, sort_key })
    }

    /// A key of this table.
    pub(crate) fn key(&self, partition: String, sort: Option<String>) -> Result<LockKey, Error> {
        check("key", &partition, MAX_PARTITION)?;
        if partition.ends_with(FENCE_SUFFIX) {
            return Err(invalid(format!("the key {partition:?} ends in {FENCE_SUFFIX:?}: such keys are reserved")));
        }
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
        Ok(LockKey { partition, sort })
    }
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

/// The key of one record, checked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LockKey {
    partition: String,
    sort: Option<String>,
}

impl LockKey {
    pub(crate) fn partition(&self) -> &str {
        &self.partition
    }

    pub(crate) fn sort(&self) -> Option<&str> {
        self.sort.as_deref()
    }
}

impl fmt::Display for LockKey {
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
        Schema::new("locks".into(), "key".into(), None).unwrap()
    }

    #[test]
    fn keys_that_can_not_work_are_refused_with_a_reason() {
        for (key, word) in [
            (String::new(), "empty"),
            ("k".repeat(2_043), "2042"),
            ("tab\there".into(), "control"),
            ("billing#fence".into(), "reserved"),
        ] {
            let error = schema().key(key, None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(error.to_string().contains(word), "{error}");
        }
        assert!(schema().key("k".repeat(2_042), None).is_ok());
        assert!(schema().key("k".into(), Some("s".into())).is_err());
    }

    #[test]
    fn tables_and_key_names_that_can_not_work_are_refused() {
        assert!(Schema::new("no spaces".into(), "key".into(), None).is_err());
        assert!(Schema::new("locks".into(), "ownerName".into(), None).is_err());
        assert!(Schema::new("locks".into(), "key".into(), Some("key".into())).is_err());
        assert!(Schema::new("arn:aws:dynamodb:eu-west-1:1:table/locks".into(), "key".into(), None).is_ok());
    }
}
