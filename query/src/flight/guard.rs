//! The door: every call passes here, so that none can forget to ask for credentials.

use arrow_flight::flight_service_server::FlightService;
use arrow_flight::{
    Action, ActionType, Criteria, Empty, FlightData, FlightDescriptor, FlightInfo,
    HandshakeRequest, HandshakeResponse, PollInfo, PutResult, Result as ActionResult, SchemaResult,
    Ticket,
};
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Response, Status, Streaming};

use super::Credentials;
use super::service::Service;
use super::wire::{internal, schema_bytes};

/// Header on refusals by which a client without credentials learns that this is a Tapio server.
pub(super) const VERSION_HEADER: &str = "tapio-version";

pub(super) struct Guard {
    service: Service,
    credentials: Option<Credentials>,
}

type Answer<T> = Result<Response<T>, Status>;

impl Guard {
    pub fn new(service: Service, credentials: Option<Credentials>) -> Self {
        Self { service, credentials }
    }

    fn admit(&self, headers: &MetadataMap) -> Result<(), Status> {
        match &self.credentials {
            Some(credentials) if !credentials.admit(headers) => {
                let given = if headers.contains_key("authorization") { "wrong" } else { "no" };
                let mut status = Status::unauthenticated(format!(
                    "{given} credentials: give user and password, or a bearer token in `authorization`"
                ));
                let version = MetadataValue::from_static(env!("CARGO_PKG_VERSION"));
                status.metadata_mut().insert(VERSION_HEADER, version);
                Err(status)
            }
            _ => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl FlightService for Guard {
    type HandshakeStream = BoxStream<'static, Result<HandshakeResponse, Status>>;
    type ListFlightsStream = BoxStream<'static, Result<FlightInfo, Status>>;
    type DoGetStream = BoxStream<'static, Result<FlightData, Status>>;
    type DoPutStream = BoxStream<'static, Result<PutResult, Status>>;
    type DoActionStream = BoxStream<'static, Result<ActionResult, Status>>;
    type ListActionsStream = BoxStream<'static, Result<ActionType, Status>>;
    type DoExchangeStream = BoxStream<'static, Result<FlightData, Status>>;

    /// Name and password in, bearer token out, as metadata and as payload.
    async fn handshake(
        &self,
        request: Request<Streaming<HandshakeRequest>>,
    ) -> Answer<Self::HandshakeStream> {
        self.admit(request.metadata())?;
        let token = self.credentials.as_ref().map(Credentials::token).unwrap_or_default();
        let payload = HandshakeResponse { protocol_version: 0, payload: token.to_owned().into() };
        let mut answer = Response::new(futures::stream::iter([Ok(payload)]).boxed());
        if !token.is_empty() {
            let value = format!("Bearer {token}").parse().map_err(internal)?;
            answer.metadata_mut().insert("authorization", value);
        }
        Ok(answer)
    }

    async fn list_flights(&self, request: Request<Criteria>) -> Answer<Self::ListFlightsStream> {
        self.admit(request.metadata())?;
        Ok(Response::new(futures::stream::empty().boxed()))
    }

    async fn get_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<FlightInfo> {
        self.admit(request.metadata())?;
        self.service.get_flight_info(request).await
    }

    async fn poll_flight_info(&self, request: Request<FlightDescriptor>) -> Answer<PollInfo> {
        self.admit(request.metadata())?;
        self.service.poll_flight_info(request).await
    }

    async fn get_schema(&self, request: Request<FlightDescriptor>) -> Answer<SchemaResult> {
        self.admit(request.metadata())?;
        let info = self.service.get_flight_info(request).await?.into_inner();
        let schema = info.try_decode_schema().map_err(internal)?;
        Ok(Response::new(SchemaResult { schema: schema_bytes(&schema)? }))
    }

    async fn do_get(&self, request: Request<Ticket>) -> Answer<Self::DoGetStream> {
        self.admit(request.metadata())?;
        self.service.do_get(request).await
    }

    async fn do_put(&self, request: Request<Streaming<FlightData>>) -> Answer<Self::DoPutStream> {
        self.admit(request.metadata())?;
        self.service.do_put(request).await
    }

    async fn do_exchange(
        &self,
        request: Request<Streaming<FlightData>>,
    ) -> Answer<Self::DoExchangeStream> {
        self.admit(request.metadata())?;
        self.service.do_exchange(request).await
    }

    async fn do_action(&self, request: Request<Action>) -> Answer<Self::DoActionStream> {
        self.admit(request.metadata())?;
        self.service.do_action(request).await
    }

    async fn list_actions(&self, request: Request<Empty>) -> Answer<Self::ListActionsStream> {
        self.admit(request.metadata())?;
        self.service.list_actions(request).await
    }
}
