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

/// What is just allowed, on each side of which stands a refusal of the table above.
#[test]
fn the_last_value_before_each_refusal_is_fine() {
    let timing = Timing::default().to_builder();
    let shortest = Timing::builder().lease(ms(1_000)).heartbeat(ms(100)).validity(ms(500)).operation_timeout(ms(100));
    for (name, built) in [
        ("the shortest lease", shortest.build()),
        ("the shortest durations", timing.heartbeat(ms(1)).attempt_timeout(ms(1)).poll(ms(1)).build()),
        ("a heartbeat that leaves room for a second try", timing.heartbeat(ms(4_000)).build()),
        ("the shortest validity", timing.validity(ms(6_500)).build()),
        ("the longest validity", timing.max_drift(0.0).validity(ms(9_750)).build()),
        ("polls as slow as the lease", timing.poll(ms(10_000)).build()),
    ] {
        assert!(built.is_ok(), "{name}: {built:?}");
    }
}

#[test]
fn each_setting_is_its_own_and_those_left_out_follow_from_it() {
    let timing = Timing::builder().operation_timeout(ms(1_500)).build().expect("valid");
    assert_eq!((timing.operation_timeout(), timing.attempt_timeout()), (ms(1_500), ms(750)));
    let poll = |lease| Timing::builder().lease(ms(lease)).build().expect("valid").poll();
    assert_eq!([poll(2_000), poll(5_000), poll(60_000)], [ms(200), ms(500), ms(1_000)], "a tenth, a second at most");
    assert_eq!(Timing::default().max_safe_time(), ms(8_000 - 2_500 - 2_000));
}

#[test]
fn another_lease_keeps_the_validitys_share_and_everything_else() {
    let timing = Timing::default().to_builder().validity(ms(7_000)).build().expect("valid");
    let longer = timing.to_builder().lease(ms(60_000)).validity(ms(42_000)).build();
    assert_eq!(timing.with_lease(ms(60_000)), longer, "seven tenths of it");
    assert_eq!(timing.with_lease(ms(10_000)), Ok(timing));
    assert!(matches!(timing.with_lease(ms(9_000)), Err(TimingError::ValidityTooShort { .. })), "6.3 s are not 6.5");
    assert!(matches!(timing.with_lease(Duration::MAX), Err(TimingError::Lease { .. })));
    // To the nanosecond, also where a floating-point number of seconds has no more of them, and at the least validity.
    let (heartbeat, operation) =
        (Duration::from_nanos(17_000_000_000_000_001), Duration::from_nanos(3_600_000_000_001));
    let year = Timing::builder().lease(ms(31_622_400_000)).heartbeat(heartbeat).operation_timeout(operation);
    let year = year.validity(heartbeat + operation * 2).build().expect("valid");
    assert_eq!(year.with_lease(year.lease()), Ok(year));
}
