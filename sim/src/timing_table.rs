//! The inequalities between the durations, for every profile and for what breaks them.

use std::time::Duration;

use crate::timing::{Timing, TimingError};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[test]
fn every_profile_holds_every_inequality_and_stands_what_its_documentation_says() {
    for (name, timing, tolerated) in [
        ("economy", Timing::economy(), 9.9),
        ("default", Timing::default(), 9.6),
        ("fast", Timing::fast(), 8.1),
        ("aggressive", Timing::aggressive(), 6.2),
    ] {
        let seconds = |duration: Duration| duration.as_secs_f64();
        let (l, h, v) = (seconds(timing.lease()), seconds(timing.heartbeat()), seconds(timing.validity()));
        let (a, g) = (seconds(timing.operation_timeout()), seconds(timing.guard()));
        assert!(h > 0.0 && h < l, "{name}");
        assert!(v >= h + 2.0 * a, "{name}: one lost heartbeat ends a leadership");
        assert!(timing.attempt_timeout() * 2 <= timing.operation_timeout(), "{name}");
        let ratio = (1.0 - timing.max_drift()) / (1.0 + timing.max_drift());
        assert!(v + g <= l * ratio, "{name}");
        assert!((seconds(timing.hard_limit()) - (l * ratio - g)).abs() < 1e-6, "{name}");
        assert!((g - (0.02 * l).max(0.25)).abs() < 1e-9, "{name}");
        assert!(timing.poll() <= timing.lease(), "{name}");
        // Solved for the drift at which the exclusion would just hold.
        let drift = 100.0 * (l - (v + g)) / (l + (v + g));
        assert!((drift - tolerated).abs() < 0.05, "{name}: {drift:.2} %");
        assert_eq!(timing.to_builder().build(), Ok(timing), "{name}");
    }
}

#[test]
fn what_breaks_an_inequality_is_told_with_both_numbers() {
    let with = |change: fn(crate::timing::TimingBuilder) -> crate::timing::TimingBuilder| {
        change(Timing::default().to_builder()).build().expect_err("refused").to_string()
    };
    let table: [(&str, String, &[&str]); 11] = [
        ("no lease", with(|t| t.lease(Duration::ZERO)), &["lease is 0ns", "1s"]),
        ("a lease of years", with(|t| t.lease(ms(400 * 86_400_000))), &["34560000s", "31622400s"]),
        ("a lease the record can't carry", with(|t| t.lease(Duration::from_nanos(10_000_000_001))), &["10.000000001s"]),
        ("no heartbeat", with(|t| t.heartbeat(Duration::ZERO)), &["heartbeat is 0ns", "1ms"]),
        ("heartbeat as long as the lease", with(|t| t.heartbeat(ms(10_000))), &["10s", "not shorter than the lease"]),
        ("heartbeat too long for a second try", with(|t| t.heartbeat(ms(4_001))), &["8s", "8.001s"]),
        ("attempts too long", with(|t| t.attempt_timeout(ms(1_001))), &["1.001s", "2s"]),
        ("validity too short", with(|t| t.validity(ms(6_499))), &["6.499s", "6.5s"]),
        ("validity of a whole lease", with(|t| t.validity(ms(10_000))), &["10.25s", "9.80198"]),
        ("polls slower than the lease", with(|t| t.poll(ms(10_001))), &["10.001s", "10s"]),
        ("clocks as bad as can be", with(|t| t.max_drift(0.5)), &["0.5", "below 0.5"]),
    ];
    for (name, message, words) in table {
        for word in words {
            assert!(message.contains(word), "{name}: {message:?} does not say {word:?}");
        }
    }
    assert!(matches!(Timing::default().to_builder().max_drift(f64::NAN).build(), Err(TimingError::Drift { .. })));
}

#[test]
fn what_is_left_out_follows_from_the_lease() {
    let timing = Timing::builder().lease(ms(20_000)).build().expect("valid");
    let durations =
        [timing.heartbeat(), timing.validity(), timing.operation_timeout(), timing.attempt_timeout(), timing.poll()];
    assert_eq!(durations, [ms(5_000), ms(16_000), ms(4_000), ms(2_000), ms(1_000)]);
    let peers = Timing::builder().lease(ms(20_000)).heartbeat(ms(5_000)).build().expect("the peers' 20 s and 5 s");
    assert_eq!(peers.validity(), ms(16_000));
    for lease in [1_000, 1_001, 2_000, 60_000, 31_622_400_000] {
        let built = Timing::builder().lease(ms(lease)).build();
        assert!(built.is_ok() || lease < 2_000, "{lease} ms: {built:?}");
    }
}
