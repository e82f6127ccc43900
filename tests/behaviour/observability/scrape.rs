//! What a scrape says, read back.

use std::collections::{BTreeMap, BTreeSet};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

/// A recorder as the document sets one up.
pub(super) fn recorder() -> PrometheusRecorder {
    let seconds = Matcher::Suffix("_seconds".into());
    PrometheusBuilder::new().set_buckets_for_metric(seconds, &[0.1, 1.0, 10.0, 60.0]).unwrap().build_recorder()
}

/// What a scrape says.
#[derive(Default)]
pub(super) struct Scrape {
    pub(super) text: String,
    /// By metric.
    pub(super) types: BTreeMap<String, String>,
    pub(super) helps: BTreeMap<String, String>,
    /// By series, as `name{label="value",…}` in the order of the labels.
    pub(super) values: BTreeMap<String, f64>,
}

impl Scrape {
    pub(super) fn of(recorder: &PrometheusRecorder) -> Self {
        let mut scrape = Self { text: recorder.handle().render(), ..Self::default() };
        for line in scrape.text.lines().filter(|line| !line.is_empty()) {
            let word =
                |rest: &str| rest.split_once(' ').map(|(name, rest)| (name.to_owned(), rest.to_owned())).unwrap();
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                scrape.types.extend([word(rest)]);
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                scrape.helps.extend([word(rest)]);
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
                let mut labels: Vec<&str> = labels.split(',').filter(|label| !label.is_empty()).collect();
                labels.sort_unstable();
                scrape.values.insert(format!("{name}{{{}}}", labels.join(",")), value.parse().unwrap());
            }
        }
        scrape
    }

    pub(super) fn at(&self, series: &str) -> f64 {
        *self.values.get(series).unwrap_or_else(|| panic!("{series} is not in {:#?}", self.values.keys()))
    }

    /// The metric that a series belongs to: a histogram has several.
    fn metric(&self, series: &str) -> String {
        let name = series.split('{').next().unwrap();
        let parts = ["_bucket", "_sum", "_count"].iter().filter_map(|end| name.strip_suffix(end));
        parts.chain([name]).find(|name| self.types.contains_key(*name)).unwrap().to_owned()
    }

    /// The labels that each metric was seen with, those of the format apart.
    pub(super) fn labels(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for series in self.values.keys() {
            let labels = series.trim_end_matches('}').split_once('{').unwrap().1;
            let names = labels.split(',').filter_map(|label| Some(label.split_once('=')?.0.to_owned()));
            seen.entry(self.metric(series)).or_default().extend(names.filter(|name| name != "le"));
        }
        seen
    }
}
