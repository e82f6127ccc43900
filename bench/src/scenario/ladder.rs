//! How many locks one process keeps at the default profile: ever more, until heartbeats are late or a lock is lost, and why then.

use serde::{Deserialize, Serialize};

use super::Plan;
use super::many::{Round, round};
use crate::host::cpus;
use crate::peer::{Kind, Lease};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Found {
    pub(crate) steps: Vec<Step>,
    /// The step after these, and why there is nothing of it.
    pub(crate) stopped: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) round: Round,
    /// Of the first that did not keep up.
    pub(crate) limit: Option<Limit>,
}

/// What there was no more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Limit {
    /// One thread of the client has a processor for itself and needs more.
    Thread,
    /// The client and the harness take all processors of the host.
    Host,
    /// Something else does: the step says nothing of the client.
    Disturbed,
    /// The harness serves as fast as one processor can.
    Harness,
    /// Processor time is left: the client waits, for answers or for its turn.
    Waiting,
}

impl Limit {
    fn of(round: &Round, cpus: usize) -> Self {
        let nearly = 90.0;
        let ours = (round.cpu_percent + round.harness_cpu_percent) / cpus as f64;
        if ours >= nearly {
            Self::Host
        } else if round.busiest_thread_percent >= nearly {
            Self::Thread
        } else if round.harness_cpu_percent >= nearly {
            Self::Harness
        } else if round.host_cpus_percent >= nearly {
            Self::Disturbed
        } else {
            Self::Waiting
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Thread => "one thread of the client, at its processor's limit",
            Self::Host => "all processors of the host, the harness's share included",
            Self::Disturbed => "something else on this host: not a measurement",
            Self::Harness => "the harness, at one processor's limit",
            Self::Waiting => "no processor: requests wait for each other",
        }
    }
}

pub(crate) async fn run(plan: &Plan, kind: &Kind) -> anyhow::Result<Found> {
    let time = plan.seconds(10, 30);
    let (first, most) = if plan.quick { (100, 200) } else { (1_000, 64_000) };
    let mut found = Found { steps: Vec::new(), stopped: None };
    let counts = std::iter::successors(Some(first), |count| Some(count * 2)).take_while(|count| *count <= most);
    for locks in counts {
        let round = match round(kind, plan, locks, Lease::default(), time).await {
            Ok(round) => round,
            Err(error) => {
                found.stopped = Some(format!("{locks} locks: {error:#}"));
                break;
            }
        };
        let limit = (!round.keeps_up()).then_some(Limit::of(&round, cpus()?));
        found.steps.push(Step { round, limit });
        if limit.is_some() {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_there_is_no_more_of_is_the_limit() {
        let limit = |cpu_percent, busiest_thread_percent, harness_cpu_percent, host_cpus_percent| {
            let percents = Round { cpu_percent, busiest_thread_percent, ..Round::default() };
            Limit::of(&Round { harness_cpu_percent, host_cpus_percent, ..percents }, 2)
        };
        assert_eq!(limit(110.0, 97.0, 50.0, 80.0), Limit::Thread);
        assert_eq!(limit(110.0, 97.0, 75.0, 97.0), Limit::Host);
        assert_eq!(limit(40.0, 30.0, 95.0, 70.0), Limit::Harness);
        assert_eq!(limit(60.0, 50.0, 20.0, 45.0), Limit::Waiting);
        assert_eq!(limit(60.0, 50.0, 20.0, 95.0), Limit::Disturbed);
    }
}
