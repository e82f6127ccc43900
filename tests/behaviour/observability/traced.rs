//! What the crate traces, field by field.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::support::trace_everywhere;

/// Everything that this crate traces on this thread: the fields' names, and their values.
#[derive(Clone, Default)]
pub(super) struct Traced(pub(super) Arc<Mutex<BTreeMap<String, Vec<String>>>>);

impl Traced {
    pub(super) fn record() -> (Self, tracing::subscriber::DefaultGuard) {
        trace_everywhere();
        let traced = Self::default();
        let guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(traced.clone()));
        (traced, guard)
    }

    pub(super) fn values(&self, field: &str) -> Vec<String> {
        self.0.lock().unwrap().get(field).cloned().unwrap_or_default()
    }

    pub(super) fn fields(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().keys().filter(|field| *field != "message").cloned().collect()
    }
}

impl Visit for Traced {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.lock().unwrap().entry(field.name().to_owned()).or_default().push(format!("{value:?}"));
    }
}

impl<S: tracing::Subscriber> Layer<S> for Traced {
    fn on_new_span(&self, span: &tracing::span::Attributes<'_>, _: &tracing::span::Id, _: Context<'_, S>) {
        if span.metadata().target().starts_with("dynamo_elector") {
            span.record(&mut self.clone());
        }
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target().starts_with("dynamo_elector") {
            event.record(&mut self.clone());
        }
    }
}
