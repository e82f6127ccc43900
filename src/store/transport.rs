//! The SDK client's settings that safety depends on (R10, R11), and what passes for an answer.

use std::time::Duration;

use aws_sdk_dynamodb::Config;
use aws_sdk_dynamodb::config::interceptors::{
    AfterDeserializationInterceptorContextRef, BeforeDeserializationInterceptorContextMut,
};
use aws_sdk_dynamodb::config::retry::{RetryConfig, RetryPartition};
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{
    Builder, ConfigBag, IdentityCache, Intercept, RuntimeComponents, SharedInterceptor, StalledStreamProtectionConfig,
};
use aws_smithy_types::body::SdkBody;
use http_body_util::Limited;

use crate::error::BoxError;

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
    let mut config = config
        .to_builder()
        .timeout_config(timeouts)
        .retry_config(retries)
        .retry_partition(RetryPartition::custom(partition.to_owned()).build())
        // The cache holds a lock across a refresh; sharing it with a blocked runtime would stall renewals.
        .identity_cache(IdentityCache::lazy().load_timeout(operation).build())
        // It judges throughput; requests of a kilobyte have none worth judging.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
    // Permanent: the SDK would ask at each of an operation's steps whether somebody had disabled it.
    config.push_interceptor(SharedInterceptor::permanent(Answers));
    config
}

/// The longest answer that is read: the SDK holds all of it in memory. A page of DynamoDB is 1 MB of items and an item at
/// most 400 KB; JSON makes that up to eight times as much (a list of booleans), so whatever is longer is no answer.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// What is not an answer of DynamoDB must not pass for one. The SDK reads whatever comes to its end, and takes an empty
/// page of a proxy for a write that was applied.
#[derive(Debug)]
struct Answers;

impl Intercept for Answers {
    fn name(&self) -> &'static str {
        "dynamo-elector answers"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        let body = response.take_body();
        // One that announces too much is not read at all.
        let announced = body.content_length().is_some_and(|length| length > MAX_ANSWER as u64);
        let limit = if announced { 0 } else { MAX_ANSWER };
        *response.body_mut() = SdkBody::from_body_1_x(Limited::new(body, limit));
        Ok(())
    }

    fn read_after_deserialization(
        &self,
        context: &AfterDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if context.output_or_error().is_ok() && !context.response().body().bytes().is_some_and(is_answer) {
            return Err("a success without an answer of DynamoDB in it".into());
        }
        Ok(())
    }
}

/// What an answer to any of our requests may begin with, as the API reference of DynamoDB has it.
const MEMBERS: [&str; 11] = [
    "Item",
    "Items",
    "Attributes",
    "ConsumedCapacity",
    "ItemCollectionMetrics",
    "Count",
    "ScannedCount",
    "LastEvaluatedKey",
    "Table",
    "TableDescription",
    "TimeToLiveDescription",
];

/// Whether a body with the status 200 is one that DynamoDB sends: an object, empty or with members that it knows.
fn is_answer(body: &[u8]) -> bool {
    let Some(rest) = body.trim_ascii().strip_prefix(b"{").map(<[u8]>::trim_ascii_start) else { return false };
    let Some(name) = rest.strip_prefix(b"\"") else { return rest == b"}" };
    let is_first = |member: &&str| name.strip_prefix(member.as_bytes()).is_some_and(|after| after.starts_with(b"\""));
    MEMBERS.iter().any(is_first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_and_pages_of_others_are_no_answers() {
        for body in [r#"{}"#, " {\r\n} ", r#"{"Item":{"__type":{"S":"x"}}}"#, r#"{ "ConsumedCapacity": {} }"#] {
            assert!(is_answer(body.as_bytes()), "{body}");
        }
        for body in [
            "",
            " ",
            "null",
            "[]",
            "<html></html>",
            "{",
            r#"{"__type":"x"}"#,
            r#"{ "message":"x"}"#,
            r#"{"Message":null}"#,
            r#"{"code":1}"#,
            r#"{"Status":"UP"}"#,
            r#"{"Item"#,
            r#"{"item":{}}"#,
        ] {
            assert!(!is_answer(body.as_bytes()), "{body}");
        }
    }
}
