//! What was asked, by whom and when, what it cost, and when it was applied.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde_json::Value;

use crate::statistics::{Summary, seconds};

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) client: usize,
    pub(crate) operation: String,
    /// The item's partition key; empty for operations on a table.
    pub(crate) key: String,
    /// When the whole of it had arrived, before any delay: on one host that is when it was sent.
    pub(crate) arrived: u64,
    /// When the engine had served it.
    pub(crate) served: Option<u64>,
    /// When its answer was let go; `None` for an answer that was lost.
    pub(crate) answered: Option<u64>,
    /// Whether it changed the record.
    pub(crate) applied: bool,
    pub(crate) units: f64,
}

impl Call {
    pub(crate) fn is_write(&self) -> bool {
        matches!(self.operation.as_str(), "UpdateItem" | "PutItem" | "DeleteItem" | "TransactWriteItems")
    }
}

/// Requests and capacity units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, serde::Deserialize)]
pub(crate) struct Cost {
    pub(crate) reads: usize,
    pub(crate) read_units: f64,
    pub(crate) writes: usize,
    pub(crate) write_units: f64,
}

impl Cost {
    /// Whether the engine tells the units of such an operation.
    pub(crate) fn is_told_for(operation: &str) -> bool {
        let told = ["GetItem", "PutItem", "UpdateItem", "DeleteItem", "Query", "Scan", "TransactWriteItems"];
        told.contains(&operation)
    }

    pub(crate) fn of<'a>(calls: impl IntoIterator<Item = &'a Call>) -> Self {
        let mut cost = Self::default();
        for call in calls.into_iter().filter(|call| !call.key.is_empty()) {
            if call.is_write() {
                cost.writes += 1;
                cost.write_units += call.units;
            } else {
                cost.reads += 1;
                cost.read_units += call.units;
            }
        }
        cost
    }
}

/// Grows for as long as the network is there.
#[derive(Clone, Default)]
pub(crate) struct Log {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    calls: Vec<Call>,
    clients: usize,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_client(&self) -> usize {
        let mut inner = self.lock();
        inner.clients += 1;
        inner.clients
    }

    pub(crate) fn arrived(&self, client: usize, operation: &str, body: &Value, at: u64) -> usize {
        let key = body["Key"]["key"]["S"].as_str().or(body["Item"]["key"]["S"].as_str());
        // Of a transaction, the record that it writes first.
        let key = key.or_else(|| {
            let first = body["TransactItems"][0].as_object()?.values().next()?;
            first["Key"]["key"]["S"].as_str().or(first["Item"]["key"]["S"].as_str())
        });
        let call = Call {
            client,
            operation: operation.into(),
            key: key.unwrap_or_default().into(),
            arrived: at,
            served: None,
            answered: None,
            applied: false,
            units: 0.0,
        };
        let mut inner = self.lock();
        inner.calls.push(call);
        inner.calls.len() - 1
    }

    pub(crate) fn served(&self, call: usize, status: u16, answer: &[u8], at: u64) {
        let mut inner = self.lock();
        let call = &mut inner.calls[call];
        call.served = Some(at);
        call.applied = status == 200 && call.is_write();
        call.units = units(call, status, answer);
    }

    pub(super) fn answered(&self, call: usize, at: u64) {
        self.lock().calls[call].answered = Some(at);
    }

    /// Those of one client that arrived at or after `from`.
    pub(crate) fn of(&self, client: usize, from: u64) -> Vec<Call> {
        let inner = self.lock();
        inner.calls.iter().filter(|call| call.client == client && call.arrived >= from).cloned().collect()
    }

    /// What a round trip really took, in milliseconds: the median of all that were answered. Timers are late by up to a millisecond
    /// each way.
    pub(crate) fn round_trip_ms(&self) -> f64 {
        let inner = self.lock();
        let times = inner.calls.iter().filter_map(|call| Some(seconds(call.arrived, call.answered?) * 1e3));
        Summary::of(&times.collect::<Vec<_>>()).p50
    }

    /// Those on one key, of everybody, in the order in which they were applied.
    pub(crate) fn writes_applied(&self, key: &str) -> Vec<Call> {
        let inner = self.lock();
        let mut calls: Vec<Call> = inner.calls.iter().filter(|call| call.applied && call.key == key).cloned().collect();
        calls.sort_by_key(|call| call.served);
        calls
    }
}

/// As the engine tells; a refused write, whose answer tells nothing, costs what DynamoDB charges for it: one unit for each
/// kilobyte of the record, and these are all smaller.
fn units(call: &Call, status: u16, answer: &[u8]) -> f64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or(Value::Null);
    let is_refusal = answer["__type"].as_str().is_some_and(|name| name.contains("ConditionalCheckFailed"));
    match (&answer["ConsumedCapacity"], status) {
        (Value::Array(tables), _) => tables.iter().filter_map(|table| table["CapacityUnits"].as_f64()).sum(),
        (told, 200) => told["CapacityUnits"].as_f64().unwrap_or_default(),
        _ if is_refusal && call.is_write() => 1.0,
        _ => 0.0,
    }
}
