//! Fuzz target: answers of whatever stands where DynamoDB should, read by the real SDK, and what is made of them.
//!
//! A case is text: the operation; the HTTP status or how the connection fails; headers; an empty line; the body.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region, StalledStreamProtectionConfig};
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::operation::delete_item::DeleteItemError;
use aws_sdk_dynamodb::operation::get_item::GetItemError;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

use crate::error::{Error, ErrorKind};
use crate::fuzz::fuzz;
use crate::protocol::{Consistency, Plan, Version, Write, WriteKind};
use crate::store::{Fill, Key, Schema, Store, Written};

#[test]
fn errors() {
    const TOKENS: [&str; 36] = [
        "",
        "\n",
        " ",
        "\t",
        "\"",
        "{",
        "}",
        "[",
        ":",
        "0",
        "200",
        "400",
        "500",
        "503",
        "io",
        "timeout",
        "UpdateItem",
        "DeleteItem",
        "GetItem",
        "__type",
        "message",
        "Message",
        "code",
        "#",
        "com.amazonaws.dynamodb.v20120810#",
        "ConditionalCheckFailedException",
        "ValidationException",
        "ThrottlingException",
        "ResourceNotFoundException",
        "TransactionConflictException",
        "Exception",
        "x-amzn-errortype: ",
        "size",
        "null",
        "\\n",
        "\u{1f512}",
    ];
    fuzz("tests/corpus/errors", &TOKENS, answered);
}

/// What a request meets.
#[derive(Debug, Clone)]
enum Answer {
    Response { status: StatusCode, headers: Vec<(String, String)>, body: String },
    NoConnection(String),
}

impl Answer {
    fn succeeds(&self) -> bool {
        matches!(self, Self::Response { status, .. } if status.is_success())
    }
}

/// Gives this answer to every request.
#[derive(Debug, Clone)]
struct Canned(Answer);

impl HttpConnector for Canned {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(match &self.0 {
            Answer::Response { status, headers, body } => {
                let mut response = HttpResponse::new(*status, SdkBody::from(body.clone()));
                for (name, value) in headers {
                    // What is no header does not come through HTTP either.
                    let _ = response.headers_mut().try_insert(name.clone(), value.clone());
                }
                Ok(response)
            }
            Answer::NoConnection(why) => Err(match why.as_str() {
                "timeout" => ConnectorError::timeout("injected".into()),
                "user" => ConnectorError::user("injected".into()),
                "io" => ConnectorError::io("injected".into()),
                other => ConnectorError::other(other.to_owned().into(), None),
            }),
        })
    }
}

impl HttpClient for Canned {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

fn parse(text: &str) -> Option<(&str, Answer)> {
    let (operation, rest) = text.split_once('\n')?;
    let (status, rest) = rest.split_once('\n').unwrap_or((rest, ""));
    let (head, body) = rest.split_once("\n\n").unwrap_or(rest.strip_prefix('\n').map_or((rest, ""), |body| ("", body)));
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()));
    let answer = match status.parse::<u16>() {
        Ok(status) => Answer::Response {
            status: StatusCode::try_from(status).ok()?,
            headers: head.lines().filter_map(header).collect(),
            body: body.to_owned(),
        },
        Err(_) => Answer::NoConnection(status.to_owned()),
    };
    Some((operation, answer))
}

fn store(answer: Answer) -> Store {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("local"))
        .endpoint_url("http://canned.invalid")
        .credentials_provider(Credentials::new("canned", "canned", None, None, "canned"))
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .retry_config(RetryConfig::disabled())
        .timeout_config(TimeoutConfig::disabled())
        .http_client(Canned(answer))
        .build();
    let schema = Schema::new("locks".into(), "key".into(), None, None).unwrap();
    let client = aws_sdk_dynamodb::Client::from_conf(config);
    Store::new(client, schema, Arc::new(|_, _| {}), Duration::from_secs(1))
}

/// What became of a write; `None` for an operation that is none of a holder's.
async fn write(store: &Store, operation: &str) -> Option<Result<Written, Error>> {
    let delete_on_release = operation == "DeleteItem";
    let kind = match operation {
        "UpdateItem" => WriteKind::Claim { token: 7 },
        "DeleteItem" => WriteKind::Release,
        _ => return None,
    };
    let version = Version::new("v2");
    let names = [Version::new("v1"), version.clone()].into_iter().collect();
    let write = Write { kind, version, names, or_absent: false, lease: Duration::from_secs(10), plan: Plan::default() };
    let fill = Fill { delete_on_release, ..Fill::plain() };
    let place = store.place(None).await.expect("there is room");
    Some(store.write(place, &Key::new("job"), &write, &fill).await)
}

/// Only a success of HTTP is one, only a failed condition is a refusal, and everything else is an error: the write may have been
/// applied, or still be (R5).
fn answered(text: &str) {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    }
    let Some((operation, answer)) = parse(text) else { return };
    let store = store(answer.clone());
    let error = RUNTIME.with(|runtime| {
        runtime.block_on(async {
            match write(&store, operation).await {
                Some(Ok(Written::Applied(_))) => {
                    assert!(answer.succeeds(), "applied by {answer:?}");
                    None
                }
                Some(Ok(Written::Refused(_))) => {
                    assert!(!answer.succeeds(), "refused by {answer:?}");
                    let failed = "ConditionalCheckFailedException";
                    let Answer::Response { headers, body, .. } = &answer else { panic!("refused by {answer:?}") };
                    let told = body.contains(failed) || headers.iter().any(|(_, value)| value.contains(failed));
                    assert!(told || body.contains('\\'), "refused by {answer:?}");
                    None
                }
                Some(Err(error)) => Some(error),
                None => {
                    let read = store.read(&Key::new("job"), Consistency::Strong, None).await;
                    assert!(read.is_err() || answer.succeeds(), "read from {answer:?}");
                    read.err()
                }
            }
        })
    });
    if let Some(error) = error {
        told(&error, &answer);
    }
}

/// The error is one of a request's, says what it is in one line that is no longer than it has to be, and what nobody
/// knows may be tried again.
fn told(error: &Error, answer: &Answer) {
    let (kind, message) = (error.kind(), error.to_string());
    assert!(ErrorKind::OF_REQUESTS.contains(&kind), "{kind:?} from {answer:?}");
    assert!(message.len() <= 1_500 && message.chars().count() <= 500, "{} bytes: {message}", message.len());
    assert!(message.len() > 20 && !message.chars().any(char::is_control), "{message:?} from {answer:?}");
    assert!(error.retold().to_string() == message);
    match answer {
        Answer::NoConnection(why) if why == "user" => assert_eq!(kind, ErrorKind::AccessDenied),
        Answer::NoConnection(why) => {
            let blamed = why.to_ascii_lowercase();
            let words = blamed.contains("credentials") || blamed.contains("identity");
            assert!(kind == ErrorKind::Unavailable || words, "{kind:?} from {answer:?}");
        }
        Answer::Response { .. } => match code_of(error) {
            Some((code, message)) => assert_eq!(kind, expected(&code, &message), "{code:?} {message:?}"),
            None => assert_eq!(kind, ErrorKind::Unavailable, "{answer:?}"),
        },
    }
}

/// The code and message that the SDK has read, if it has read any.
fn code_of(error: &Error) -> Option<(String, String)> {
    fn of<E: ProvideErrorMetadata + std::error::Error + 'static>(
        source: &(dyn std::error::Error + 'static),
    ) -> Option<(String, String)> {
        let error = source.downcast_ref::<SdkError<E, HttpResponse>>()?.as_service_error()?;
        Some((error.code().unwrap_or_default().to_owned(), error.message().unwrap_or_default().to_owned()))
    }
    let source = std::error::Error::source(error)?;
    of::<UpdateItemError>(source).or_else(|| of::<DeleteItemError>(source)).or_else(|| of::<GetItemError>(source))
}

/// By the API reference once more.
fn expected(code: &str, message: &str) -> ErrorKind {
    const BY_KIND: [(ErrorKind, &[&str]); 4] = [
        (ErrorKind::TableMissing, &["ResourceNotFoundException"]),
        (ErrorKind::TableNotReady, &["ResourceInUseException", "TableInUseException"]),
        (
            ErrorKind::Throttled,
            &[
                "ProvisionedThroughputExceededException",
                "RequestLimitExceeded",
                "ThrottlingException",
                "LimitExceededException",
                "TransactionConflictException",
                "TransactionInProgressException",
            ],
        ),
        (
            ErrorKind::AccessDenied,
            &[
                "InvalidSignatureException",
                "RequestTimeTooSkewed",
                "RequestExpired",
                "SignatureDoesNotMatch",
                "AccessDeniedException",
                "UnrecognizedClientException",
                "ExpiredTokenException",
                "ExpiredToken",
                "InvalidClientTokenId",
                "MissingAuthenticationTokenException",
                "MissingAuthenticationToken",
                "IncompleteSignatureException",
                "IncompleteSignature",
                "NotAuthorized",
                "OptInRequired",
            ],
        ),
    ];
    match BY_KIND.iter().find(|(_, codes)| codes.contains(&code)) {
        Some((kind, _)) => *kind,
        None if code == "ValidationException" && message.contains("size") => ErrorKind::InvalidInput,
        None if code == "ValidationException" => ErrorKind::TableUnfit,
        None => ErrorKind::Unavailable,
    }
}
