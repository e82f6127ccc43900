//! What an error of the SDK means, and what to do about it.

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};

use super::Op;
use crate::error::{BoxError, Error, ErrorKind};

/// Sorts an error that is not a refused condition.
///
/// None of them proves that a write was not applied: an earlier attempt inside the SDK may have been.
pub(super) fn classify<E, R>(op: Op, table: &str, error: SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let at = format!("{} on table {table}", op.as_str());
    let (kind, message) = match &error {
        SdkError::TimeoutError(_) => (ErrorKind::Unavailable, format!("{at} was not answered in time")),
        SdkError::DispatchFailure(failure) if failure.is_user() || mentions_credentials(&error) => no_credentials(&at),
        SdkError::DispatchFailure(_) => {
            (ErrorKind::Unavailable, format!("{at} did not get through: check endpoint, Region and network"))
        }
        SdkError::ConstructionFailure(_) if mentions_credentials(&error) => no_credentials(&at),
        SdkError::ConstructionFailure(_) => {
            (ErrorKind::InvalidInput, format!("{at} could not be sent: check the SDK configuration (Region, endpoint)"))
        }
        SdkError::ServiceError(service) => {
            let error = service.err();
            by_code(&at, error.code().unwrap_or("no code"), error.message().unwrap_or_default())
        }
        // Unparsable answers, and whatever later versions of the SDK add.
        _ => (ErrorKind::Unavailable, format!("{at} got an answer that is none of DynamoDB's")),
    };
    Error::new(kind, message).with_source(Box::new(error) as BoxError)
}

/// Ends or turns around a line of text.
fn breaks_a_line(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What a server says, for one line of a log: it may say anything, at any length. Only for people: what it means is read
/// from all of it.
fn told(text: &str) -> String {
    const LONGEST: usize = 200;
    let clean = text.chars().map(|c| if breaks_a_line(c) { ' ' } else { c });
    let mut short: String = clean.take(LONGEST).collect();
    if text.chars().nth(LONGEST).is_some() {
        short.push('…');
    }
    short
}

fn no_credentials(at: &str) -> (ErrorKind, String) {
    (ErrorKind::AccessDenied, format!("{at} could not be signed: no valid credentials were found, provide some"))
}

fn mentions_credentials<E, R>(error: &SdkError<E, R>) -> bool
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug,
{
    // The SDK gives these no type of their own; the words are those of its identity resolution.
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let text = cause.to_string().to_ascii_lowercase();
        if text.contains("credentials") || text.contains("identity") {
            return true;
        }
        source = cause.source();
    }
    false
}

/// By the error codes of the DynamoDB API reference, "Common errors" and "Error handling".
fn by_code(at: &str, code: &str, message: &str) -> (ErrorKind, String) {
    match code {
        "ResourceNotFoundException" => (ErrorKind::TableMissing, format!("{at}: there is no such table; create it")),
        "ResourceInUseException" | "TableInUseException" => {
            (ErrorKind::TableNotReady, format!("{at}: the table is being created, changed or deleted; retry later"))
        }
        "ProvisionedThroughputExceededException"
        | "RequestLimitExceeded"
        | "ThrottlingException"
        | "LimitExceededException" => (
            ErrorKind::Throttled,
            format!("{at} was throttled ({code}): raise the table's capacity or give the locks a table of their own"),
        ),
        "TransactionConflictException" | "TransactionInProgressException" => (
            ErrorKind::Throttled,
            format!(
                "{at} met a transaction on the same item ({code}): retry, and send such transactions one at a time"
            ),
        ),
        "InvalidSignatureException" | "RequestTimeTooSkewed" | "RequestExpired" | "SignatureDoesNotMatch" => (
            ErrorKind::AccessDenied,
            format!("{at} was signed wrongly ({code}): check the secret key and this machine's wall clock"),
        ),
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "InvalidClientTokenId"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "IncompleteSignatureException"
        | "IncompleteSignature"
        | "NotAuthorized"
        | "OptInRequired" => (
            ErrorKind::AccessDenied,
            format!("{at} was denied ({code}): check the credentials and that their policy permits dynamodb:{at}"),
        ),
        "ValidationException" if message.contains("size") => {
            (ErrorKind::InvalidInput, format!("{at} was refused, the record would be too large: use less data"))
        }
        "ValidationException" => (
            ErrorKind::TableUnfit,
            format!(
                "{at} was refused ({}): check the table's key names and types against the client's settings",
                told(message)
            ),
        ),
        _ => (ErrorKind::Unavailable, format!("{at} failed on the server's side ({})", told(code))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_says_is_one_short_line() {
        assert_eq!(told("one\r\ntwo\u{1b}[31m"), "one  two [31m");
        let long = told(&"ü".repeat(100_000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (201, true));
        assert_eq!(told(&"ü".repeat(200)), "ü".repeat(200));
    }

    #[test]
    fn a_message_means_what_all_of_it_says() {
        let (kind, message) = by_code("x", "ValidationException", &format!("{} size", "y".repeat(1_000)));
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert!(message.len() < 100, "{message}");
    }

    #[test]
    fn codes_are_sorted_by_what_a_caller_can_do() {
        for (code, kind) in [
            ("ResourceNotFoundException", ErrorKind::TableMissing),
            ("ThrottlingException", ErrorKind::Throttled),
            ("TransactionConflictException", ErrorKind::Throttled),
            ("AccessDeniedException", ErrorKind::AccessDenied),
            ("ExpiredTokenException", ErrorKind::AccessDenied),
            ("RequestExpired", ErrorKind::AccessDenied),
            ("ValidationException", ErrorKind::TableUnfit),
            ("InternalServerError", ErrorKind::Unavailable),
            ("SomethingNew", ErrorKind::Unavailable),
        ] {
            assert_eq!(by_code("GetItem on table locks", code, "").0, kind, "{code}");
        }
        let (_, message) = by_code("GetItem on table locks", "RequestTimeTooSkewed", "");
        assert!(message.contains("clock"), "{message}");
        let (_, message) = by_code("UpdateItem on table locks", "TransactionConflictException", "");
        assert!(message.contains("transaction") && !message.contains("capacity"), "{message}");
    }
}
