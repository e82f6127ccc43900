//! What the process table says.

use anyhow::Context;
use rustix::process::Pid;

#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(crate) resident_bytes: f64,
}

impl Usage {
    pub(crate) fn of(pid: Pid) -> anyhow::Result<Self> {
        let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", pid.as_raw_nonzero()));
        Self::parse(&read("stat")?, &read("statm")?).context("the process table is of another form")
    }

    fn parse(stat: &str, statm: &str) -> Option<Self> {
        // The second field is a name in parentheses, which may hold anything.
        let after_name = stat.rsplit_once(')')?.1;
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        // utime and stime are the 14th and 15th of all.
        let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        let pages = statm.split_whitespace().nth(1)?.parse::<f64>().ok()?;
        Some(Self {
            cpu_seconds: ticks / rustix::param::clock_ticks_per_second() as f64,
            resident_bytes: pages * rustix::param::page_size() as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 150 50 0 0 20 0 9 0 100 1000 250 1";
        let usage = Usage::parse(stat, "1000 250 100 1 0 90 0").unwrap();
        assert_eq!(usage.cpu_seconds, 200.0 / rustix::param::clock_ticks_per_second() as f64);
        assert_eq!(usage.resident_bytes, 250.0 * rustix::param::page_size() as f64);
        assert!(Usage::parse("7 (a) S", "1").is_none());
    }

    #[test]
    fn this_process_uses_something() {
        let usage = Usage::of(rustix::process::getpid()).unwrap();
        assert!(usage.resident_bytes > 1e6 && usage.cpu_seconds >= 0.0);
    }
}
