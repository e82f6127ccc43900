//! Which clients there are, and how their drivers are started.

use std::path::{Path, PathBuf};

use crate::scenario::Scenario;

/// Whether the driver gives its SDK a bound on each attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timeouts {
    /// The client's own defaults, whatever they are.
    Default,
    Set,
}

#[derive(Debug, Clone)]
pub(crate) struct Kind {
    pub(crate) name: String,
    pub(crate) command: Vec<String>,
    pub(crate) table: String,
    pub(crate) timeouts: Timeouts,
    /// This crate, of which more repetitions are made.
    own: bool,
    /// It has figures of its own in these alone; empty: in all.
    only: &'static [Scenario],
    /// Another client shows these.
    without: &'static [Scenario],
    /// What to do first if the driver is not there.
    missing: Option<(PathBuf, &'static str)>,
}

/// Partition key `key`.
pub(crate) const LOCKS: &str = "locks";
/// The same, and items expire by `lease_expiry`, which dynamodb-lease insists on.
pub(crate) const LEASES: &str = "leases";

/// With which this program was built: the folder that it stands in.
pub(crate) fn profile() -> anyhow::Result<String> {
    let own = std::env::current_exe()?;
    Ok(own.parent().and_then(Path::file_name).unwrap_or_default().display().to_string())
}

impl Kind {
    fn new(name: &str, command: Vec<String>) -> Self {
        Self {
            name: name.into(),
            command,
            table: LOCKS.into(),
            timeouts: Timeouts::Default,
            own: false,
            only: &[],
            without: &[],
            missing: None,
        }
    }

    /// This crate's two layers, the peers, and what `BENCH_PEER` (`name=command`) names.
    pub(crate) fn all() -> anyhow::Result<Vec<Self>> {
        let own = std::env::current_exe()?.display().to_string();
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
        let this = |layer: &str, without| Self {
            own: true,
            without,
            ..Self::new(layer, vec![own.clone(), "driver".into(), layer.into()])
        };
        // Electors hold on the keeper of their lock client.
        let (elector, lock) =
            (this("elector", &[Scenario::Many, Scenario::Ladder][..]), this("lock", &[Scenario::Growth][..]));
        let jar = peers.join("java/target/peer.jar");
        let java = Self {
            missing: Some((jar.clone(), "mvn -q -B package in bench/peers/java")),
            ..Self::new("dynamodb-lock-client", vec!["java".into(), "-jar".into(), jar.display().to_string()])
        };
        // Optimised as much as this program is.
        let driver = peers.join("dynamodb-lease/target").join(profile()?).join("bench-peer-dynamodb-lease");
        let lease = Self {
            table: LEASES.into(),
            missing: Some((
                driver.clone(),
                "cargo build in bench/peers/dynamodb-lease, with the profile of this program",
            )),
            ..Self::new("dynamodb-lease", vec![driver.display().to_string()])
        };
        let (bounded_java, bounded_lease) = (java.with_timeouts(), lease.with_timeouts());
        let mut all = vec![elector, lock, java, bounded_java, lease, bounded_lease];
        if let Ok(text) = std::env::var("BENCH_PEER") {
            let (name, command) = text.split_once('=').ok_or_else(|| anyhow::anyhow!("BENCH_PEER is name=command"))?;
            all.push(Self::new(name, command.split_whitespace().map(str::to_owned).collect()));
        }
        Ok(all)
    }

    /// The same client with a bound on each attempt of its SDK, where that makes a difference.
    fn with_timeouts(&self) -> Self {
        let name = format!("{} + timeouts", self.name);
        Self { name, timeouts: Timeouts::Set, only: &[Scenario::Loss, Scenario::Cut], ..self.clone() }
    }

    pub(crate) fn runs(&self, scenario: Scenario) -> bool {
        (self.only.is_empty() || self.only.contains(&scenario)) && !self.without.contains(&scenario)
    }

    /// How often something is repeated with this crate, or with a peer.
    pub(crate) fn repetitions<T>(&self, own: T, peer: T) -> T {
        if self.own { own } else { peer }
    }

    /// What to do first, if the driver is not there.
    pub(crate) fn missing(&self) -> Option<&'static str> {
        self.missing.as_ref().filter(|(path, _)| !path.exists()).map(|(_, todo)| *todo)
    }
}
