//! The SDK client's settings that safety depends on (R10, R11).

use std::time::Duration;

use aws_sdk_dynamodb::Config;
use aws_sdk_dynamodb::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{Builder, IdentityCache, StalledStreamProtectionConfig};

/// More attempts than fit into an operation's time: its timeout is what bounds it.
const MAX_ATTEMPTS: u32 = 4;

/// The user's configuration with our network budget: every call is bounded inside the SDK (which by
/// default bounds none), retries draw on a bucket of our own, and credentials are cached apart.
pub(crate) fn sdk_config(config: &Config, operation: Duration, attempt: Duration, partition: &str) -> Builder {
    let timeouts = TimeoutConfig::builder()
        .operation_timeout(operation)
        .operation_attempt_timeout(attempt)
        .connect_timeout(attempt)
        .read_timeout(attempt)
        .build();
    let retries = RetryConfig::standard()
        .with_max_attempts(MAX_ATTEMPTS)
        .with_initial_backoff(attempt / 10)
        .with_max_backoff(attempt / 2);
    config
        .to_builder()
        .timeout_config(timeouts)
        .retry_config(retries)
        .retry_partition(RetryPartition::custom(partition.to_owned()).build())
        // The cache holds a lock across a refresh; sharing it with a blocked runtime would stall renewals.
        .identity_cache(IdentityCache::lazy().load_timeout(operation).build())
        // It judges throughput; requests of a kilobyte have none worth judging.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
}
