//! The engine: inline in memory, on a thread of its own for a file.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use dynoxide::Database;
use dynoxide::errors::DynoxideError;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::error::{Error, ErrorKind};

/// Two processes that create a file at the same instant find it locked for a moment.
const OPEN_WITHIN: Duration = Duration::from_secs(5);
const OPEN_PAUSE: Duration = Duration::from_millis(100);

/// Status and JSON body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(super) fn error(status: u16, code: &str, message: &str) -> Self {
        let body =
            serde_json::json!({ "__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": message });
        Self { status, body: body.to_string().into_bytes() }
    }
}

pub(super) struct Job {
    operation: String,
    body: Vec<u8>,
    done: oneshot::Sender<Answer>,
}

#[derive(Clone)]
pub(super) enum Engine {
    Inline(Database),
    Thread(mpsc::Sender<Job>),
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Inline(_) => "Engine::Inline",
            Self::Thread(_) => "Engine::Thread",
        })
    }
}

fn unavailable(message: String, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Unavailable, message).with_source(error)
}

impl Engine {
    pub(super) fn in_memory() -> Result<Self, Error> {
        let database = Database::memory()
            .map_err(|error| unavailable("the embedded engine could not be started".into(), error))?;
        Ok(Self::Inline(database))
    }

    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let database = open(path)?;
        let (jobs, received) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("dynamo-elector-engine".into())
            .spawn(move || {
                for job in received {
                    // A caller that has given up bounds the backlog of a thread that was blocked.
                    if !job.done.is_closed() {
                        let _ = job.done.send(dispatch(&database, &job.operation, &job.body));
                    }
                }
            })
            .map_err(|error| unavailable("the engine's thread could not be started".into(), error))?;
        Ok(Self::Thread(jobs))
    }

    pub(super) async fn answer(&self, operation: String, body: Vec<u8>) -> Answer {
        match self {
            Self::Inline(database) => dispatch(database, &operation, &body),
            Self::Thread(jobs) => {
                let (done, answer) = oneshot::channel();
                let ended = || Answer::error(500, "InternalServerError", "the engine has ended");
                if jobs.send(Job { operation, body, done }).is_err() {
                    return ended();
                }
                answer.await.unwrap_or_else(|_| ended())
            }
        }
    }
}

fn open(path: &Path) -> Result<Database, Error> {
    let text = path.to_str().ok_or_else(|| {
        Error::new(ErrorKind::InvalidInput, format!("{} is not UTF-8: choose another path", path.display()))
    })?;
    let start = Clock::System.now();
    loop {
        match Database::new(text) {
            Ok(database) => return Ok(database),
            Err(_) if Clock::System.now().since(start) < OPEN_WITHIN => std::thread::sleep(OPEN_PAUSE),
            Err(error) => {
                return Err(unavailable(format!("the database file {} can't be opened", path.display()), error));
            }
        }
    }
}

/// One request to the engine's typed interface and back.
fn dispatch(database: &Database, operation: &str, body: &[u8]) -> Answer {
    let result = match operation {
        "CreateTable" => typed(body, |request| database.create_table(request)),
        "DeleteTable" => typed(body, |request| database.delete_table(request)),
        "DescribeTable" => typed(body, |request| database.describe_table(request)),
        "ListTables" => typed(body, |request| database.list_tables(request)),
        "DescribeTimeToLive" => typed(body, |request| database.describe_time_to_live(request)),
        "UpdateTimeToLive" => typed(body, |request| database.update_time_to_live(request)),
        "GetItem" => typed(body, |request| database.get_item(request)),
        "PutItem" => typed(body, |request| database.put_item(request)),
        "UpdateItem" => typed(body, |request| database.update_item(request)),
        "DeleteItem" => typed(body, |request| database.delete_item(request)),
        "Query" => typed(body, |request| database.query(request)),
        "Scan" => typed(body, |request| database.scan(request)),
        "TransactWriteItems" => typed(body, |request| database.transact_write_items(request)),
        "TransactGetItems" => typed(body, |request| database.transact_get_items(request)),
        _ => {
            return Answer::error(400, "UnknownOperationException", "the embedded engine does not know this operation");
        }
    };
    result.unwrap_or_else(|error| Answer { status: error.status_code(), body: error.to_json().into_bytes() })
}

fn typed<Request, Response>(
    body: &[u8],
    run: impl FnOnce(Request) -> Result<Response, DynoxideError>,
) -> Result<Answer, DynoxideError>
where
    Request: DeserializeOwned,
    Response: Serialize,
{
    let broken = |error: serde_json::Error| DynoxideError::SerializationException(error.to_string());
    let request = serde_json::from_slice(body).map_err(broken)?;
    let response = run(request)?;
    Ok(Answer { status: 200, body: serde_json::to_vec(&response).map_err(broken)? })
}
