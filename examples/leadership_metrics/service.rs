//! The service: two elections, and the routes that tell of them.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use dynamo_elector::{Elections, Elector, Health, LeaderInfo, LeadershipView};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::Options;

/// From a heartbeat's milliseconds to a tenure's hours.
const BUCKETS: [f64; 16] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0, 3_600.0];

/// What request handlers know.
#[derive(Clone)]
struct App {
    jobs: Elector,
    elections: Elections,
    metrics: PrometheusHandle,
}

pub(super) async fn run(options: &Options, address: &str) -> anyhow::Result<()> {
    // Before the lock client, which describes its metrics when it is built.
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS)?
        .install_recorder()?;
    // Before the elections, since the leader advertises where it listens.
    let listener = TcpListener::bind(address).await?;
    let own = format!("http://{}", listener.local_addr()?);

    let locks = options.locks()?.build().await?;
    let elections = Elections::new(&locks);
    let jobs = elections.elector("jobs").advertise(own.as_str()).start()?.into_elector();
    // Given to another replica now and then.
    let turn = 3 * locks.timing().lease();
    elections.elector("reports").advertise(own.as_str()).max_tenure(turn).start()?;
    elections.shutdown_on_signal()?;
    if let Some(seconds) = options.seconds {
        let elections = elections.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            elections.shutdown().await;
        });
    }

    println!("{own}");
    let app = App { jobs: jobs.clone(), elections: elections.clone(), metrics };
    tokio::spawn(upkeep(app.metrics.clone()));
    // Serves until leadership is released: requests of the leader have ended by then, others find the next leader.
    let stopped = async move {
        jobs.until_stopped().await;
    };
    axum::serve(listener, routes(app)).with_graceful_shutdown(stopped).await?;
    elections.shutdown().await; // all of them, also those that took longer
    Ok(())
}

fn routes(app: App) -> Router {
    Router::new()
        .route("/jobs", get(jobs))
        .route("/leader", get(leader))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(app)
}

/// An argument of every handler that only the leader may run. While a request holds it the release waits, within the drain
/// timeout; what takes long goes under `guard`, so that it ends when leadership does.
struct LeaderOnly(LeadershipView);

impl FromRequestParts<App> for LeaderOnly {
    type Rejection = Response;

    async fn from_request_parts(request: &mut Parts, app: &App) -> Result<Self, Response> {
        if let Some(leadership) = app.jobs.leadership() {
            return Ok(Self(leadership));
        }
        // Not to this process, which is still the leader in the record while it gives leadership up.
        let other = app.jobs.status().borrow().leader_elsewhere().cloned();
        let path = request.uri.path_and_query().map_or("/", |path| path.as_str());
        Err(match other.as_ref().and_then(LeaderInfo::address) {
            Some(address) => Redirect::temporary(&format!("{address}{path}")).into_response(),
            None => nobody_leads(),
        })
    }
}

fn nobody_leads() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], "nobody leads\n").into_response()
}

async fn jobs(LeaderOnly(leadership): LeaderOnly) -> Result<Json<Value>, Response> {
    let work = async { 42 }; // sends the fencing token with every effect
    let done = leadership.guard(work).await.map_err(|_| nobody_leads())?;
    Ok(Json(json!({ "jobs": done, "fencing_token": leadership.fencing_token() })))
}

/// Owner and forwarding address, or `null`.
async fn leader(State(app): State<App>) -> Json<Option<LeaderInfo>> {
    Json(app.jobs.status().borrow().leader.clone())
}

async fn livez(State(app): State<App>) -> Response {
    probe(&app, |health| health.is_live)
}

async fn readyz(State(app): State<App>) -> Response {
    probe(&app, |health| health.is_ready)
}

/// 200 if it holds for all elections, with what ails them as JSON.
fn probe(app: &App, holds: fn(&Health) -> bool) -> Response {
    let electors = app.elections.electors();
    let health: BTreeMap<_, _> = electors.iter().map(|elector| (elector.name(), elector.health())).collect();
    let status = if health.values().all(holds) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(health)).into_response()
}

async fn metrics(State(app): State<App>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], app.metrics.render())
}

/// Histograms grow until they are looked at: here also when nobody scrapes.
async fn upkeep(metrics: PrometheusHandle) {
    let mut period = tokio::time::interval(Duration::from_secs(5));
    loop {
        period.tick().await;
        metrics.run_upkeep();
    }
}
