//! What the process table says.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Context;
use rustix::process::Pid;

#[derive(Debug, Clone)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_bytes: f64,
    /// Seconds of each of its threads.
    threads: HashMap<String, f64>,
}

impl Usage {
    pub(crate) fn of(pid: Pid) -> anyhow::Result<Self> {
        let folder = Path::new("/proc").join(pid.as_raw_nonzero().to_string());
        let read = |file: &str| std::fs::read_to_string(folder.join(file));
        let (stat, statm) = (read("stat")?, read("statm")?);
        let other = "the process table is of another form";
        let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<f64>().ok()).context(other)?;
        let mut threads = HashMap::new();
        for entry in std::fs::read_dir(folder.join("task"))? {
            let entry = entry?;
            // One that has just ended has no figures.
            let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
            threads.insert(entry.file_name().to_string_lossy().into_owned(), cpu_seconds(&stat).context(other)?);
        }
        Ok(Self {
            cpu_seconds: cpu_seconds(&stat).context(other)?,
            resident_bytes: pages * rustix::param::page_size() as f64,
            threads,
        })
    }

    pub(crate) fn own() -> anyhow::Result<Self> {
        Self::of(rustix::process::getpid())
    }

    /// What the thread took since `before` that took the most, in seconds.
    pub(crate) fn busiest_since(&self, before: &Self) -> f64 {
        let took = |(id, seconds): (&String, &f64)| seconds - before.threads.get(id).copied().unwrap_or_default();
        self.threads.iter().map(took).fold(0.0, f64::max)
    }
}

/// Of a process or a thread.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The second field is a name in parentheses, which may hold anything.
    let after_name = stat.rsplit_once(')')?.1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    // utime and stime are the 14th and 15th of all.
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some(ticks / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 9 0 100 1000 250 1";
        assert_eq!(cpu_seconds(stat), Some(200.0 / rustix::param::clock_ticks_per_second() as f64));
        assert!(cpu_seconds("7 (a) S").is_none());
    }

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::own().unwrap();
        assert!(usage.resident_bytes > 1e6 && usage.cpu_seconds >= 0.0 && !usage.threads.is_empty());
    }

    #[test]
    fn the_busiest_thread_is_the_one_that_took_the_most_since() {
        let usage = |threads: &[(&str, f64)]| Usage {
            cpu_seconds: 0.0,
            resident_bytes: 0.0,
            threads: threads.iter().map(|(id, seconds)| ((*id).to_owned(), *seconds)).collect(),
        };
        let before = usage(&[("1", 9.0), ("2", 1.0)]);
        assert_eq!(usage(&[("1", 9.5), ("2", 3.0), ("3", 1.5)]).busiest_since(&before), 2.0);
        assert_eq!(usage(&[("3", 2.5)]).busiest_since(&before), 2.5, "one that has started since");
    }
}
