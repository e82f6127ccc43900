//! The engine as an HTTP client of the SDK.

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_runtime_api::http::StatusCode;
use aws_smithy_types::body::SdkBody;

use super::engine::{Answer, Engine};
#[cfg(feature = "test-util")]
use super::faults::Faults;

/// Carries requests to the engine. Bound to no runtime: there are no connections.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    engine: Engine,
    #[cfg(feature = "test-util")]
    faults: Option<Faults>,
}

impl Connector {
    pub(super) fn new(engine: Engine) -> Self {
        Self {
            engine,
            #[cfg(feature = "test-util")]
            faults: None,
        }
    }

    #[cfg(feature = "test-util")]
    pub(super) fn with_faults(engine: Engine, faults: Faults) -> Self {
        Self { engine, faults: Some(faults) }
    }

    async fn answer(self, operation: String, body: Vec<u8>) -> Result<Answer, ConnectorError> {
        #[cfg(feature = "test-util")]
        if let Some(faults) = &self.faults {
            return faults.carry(&self.engine, operation, body).await;
        }
        Ok(self.engine.answer(operation, body).await)
    }
}

impl HttpConnector for Connector {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move {
            let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
            let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
            // Drained in full, or the SDK takes a slow answer for a stalled upload.
            let body = request
                .take_body()
                .bytes()
                .map(<[u8]>::to_vec)
                .ok_or_else(|| ConnectorError::user("the embedded engine takes no streamed bodies".into()))?;
            let answer = this.answer(operation, body).await?;
            let status =
                StatusCode::try_from(answer.status).map_err(|error| ConnectorError::other(error.into(), None))?;
            let mut response = HttpResponse::new(status, SdkBody::from(answer.body));
            response.headers_mut().insert("content-type", "application/x-amz-json-1.0");
            Ok(response)
        })
    }
}

impl HttpClient for Connector {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}
