//! The client: connects, makes sure that a Tapio server answers, and asks.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch, UInt32Array, UnionArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::flight_service_client::FlightServiceClient;
use arrow_flight::sql::{CommandGetSqlInfo, ProstMessageExt, SqlInfo, TicketStatementQuery};
use arrow_flight::{HandshakeRequest, Ticket};
use datafusion::scalar::ScalarValue;
use futures::{Stream, StreamExt, TryStreamExt};
use prost::Message;
use tokio::time::{Instant, timeout_at};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request};

use super::address::{self, Address};
use super::sniff::{silent_hint, speaks_http2};
use super::statement::Statement;
use super::{ClientError, Credentials, SERVER_NAME, SqlProblem};

/// A server that answers no ping for this long during a query is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How to connect.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// For connecting and the first answer; queries have no limit on this side.
    pub timeout: Duration,
    /// User and password, if the server wants them.
    pub user: Option<(String, String)>,
    /// A bearer token instead.
    pub token: Option<String>,
    /// Largest message accepted, in bytes.
    pub max_message_bytes: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            user: None,
            token: None,
            max_message_bytes: 64 << 20,
        }
    }
}

/// A statement with what belongs to it.
#[derive(Debug, Clone, Default)]
pub struct Query {
    sql: String,
    parameters: Vec<ScalarValue>,
    as_of_us: Option<i64>,
}

impl Query {
    /// A statement without parameters, as of the server's default time.
    pub fn new(sql: impl Into<String>) -> Self {
        Self { sql: sql.into(), ..Self::default() }
    }

    /// Binds the next parameter: the first call `$1`, the second `$2`, and so on.
    #[must_use]
    pub fn bind(mut self, value: impl Into<ScalarValue>) -> Self {
        self.parameters.push(value.into());
        self
    }

    /// Asks as of a time, in microseconds since 1970 (UTC).
    #[must_use]
    pub fn as_of_us(mut self, as_of_us: i64) -> Self {
        self.as_of_us = Some(as_of_us);
        self
    }

    fn statement(self) -> Result<Statement, ClientError> {
        let mut statement = Statement { sql: self.sql, as_of_us: self.as_of_us, parameters: None };
        if self.parameters.is_empty() {
            return Ok(statement);
        }
        let wrong = |e: String| {
            ClientError::Sql(SqlProblem::new(format!("parameters: {e}"), "bind plain values"))
        };
        let mut fields = Vec::new();
        let mut columns = Vec::new();
        for (i, value) in self.parameters.iter().enumerate() {
            fields.push(Field::new(format!("${}", i + 1), value.data_type(), true));
            columns.push(value.to_array().map_err(|e| wrong(e.to_string()))?);
        }
        let row = RecordBatch::try_new(Schema::new(fields).into(), columns)
            .map_err(|e| wrong(e.to_string()))?;
        statement.bind(&[row]).map_err(|status| wrong(status.message().to_owned()))?;
        Ok(statement)
    }
}

impl From<&str> for Query {
    fn from(sql: &str) -> Self {
        Self::new(sql)
    }
}

impl From<String> for Query {
    fn from(sql: String) -> Self {
        Self::new(sql)
    }
}

/// A connection to a Tapio server. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct FlightClient {
    inner: FlightServiceClient<Channel>,
    url: String,
    version: String,
    authorization: Option<MetadataValue<Ascii>>,
}

impl FlightClient {
    /// Connects to a server that asks for no credentials, within `timeout`. Addresses are written `localhost:9090`,
    /// `http://…` or `grpc://…`.
    ///
    /// # Errors
    /// See [`Self::connect_with`].
    pub async fn connect(url: &str, timeout: Duration) -> Result<Self, ClientError> {
        Self::connect_with(url, &ClientOptions { timeout, ..ClientOptions::default() }).await
    }

    /// Connects and makes sure that it is a Tapio server that answers.
    ///
    /// # Errors
    /// [`ClientError::Address`], [`ClientError::Unreachable`] (nobody there), [`ClientError::NotTapio`] (somebody
    /// else there, or no answer in time), [`ClientError::Unauthenticated`].
    pub async fn connect_with(url: &str, options: &ClientOptions) -> Result<Self, ClientError> {
        let address = address::parse(url).map_err(ClientError::Address)?;
        let deadline = Instant::now() + options.timeout;
        speaks_http2(&address, deadline).await?;
        match timeout_at(deadline, Self::open(&address, options)).await {
            Ok(client) => client,
            Err(_) => {
                let hint = silent_hint(options.timeout);
                Err(ClientError::NotTapio { url: address.url, hint })
            }
        }
    }

    async fn open(address: &Address, options: &ClientOptions) -> Result<Self, ClientError> {
        let url = address.url.clone();
        let endpoint = Endpoint::from_shared(url.clone())
            .map_err(|e| ClientError::Address(format!("server address {url}: {e}")))?
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE);
        let channel = endpoint
            .connect()
            .await
            .map_err(|e| ClientError::Unreachable { url: url.clone(), message: e.to_string() })?;
        let inner = FlightServiceClient::new(channel)
            .max_decoding_message_size(options.max_message_bytes)
            .max_encoding_message_size(options.max_message_bytes);
        let mut client = Self { inner, url, version: String::new(), authorization: None };
        if let Some(token) = &options.token {
            client.authorization = Some(client.header(&format!("Bearer {token}"))?);
        } else if let Some((user, password)) = &options.user {
            client.handshake(user, password).await?;
        }
        client.version = client.identify().await?;
        Ok(client)
    }

    /// The server's address as it was understood.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's version.
    #[must_use]
    pub fn server_version(&self) -> &str {
        &self.version
    }

    /// Asks and collects all rows.
    ///
    /// # Errors
    /// [`ClientError::Sql`], [`ClientError::Exhausted`], [`ClientError::Gone`] and the others.
    pub async fn query(
        &self,
        query: impl Into<Query>,
    ) -> Result<(SchemaRef, Vec<RecordBatch>), ClientError> {
        let stream = self.query_stream(query).await?;
        let schema = stream.schema();
        Ok((schema, stream.try_collect().await?))
    }

    /// Asks and returns the rows as they come. Dropping the stream cancels the query on the server.
    ///
    /// # Errors
    /// As [`Self::query`]; what fails after the first rows comes as the last item of the stream.
    pub async fn query_stream(&self, query: impl Into<Query>) -> Result<QueryStream, ClientError> {
        // The ticket carries the whole statement, so that one round trip (and one planning) is enough.
        let statement = query.into().statement()?;
        let ticket = TicketStatementQuery { statement_handle: statement.to_bytes() };
        let mut decoder = self.get(&ticket).await?;
        let schema = match decoder.next().await {
            Some(Ok(first)) => match first.payload {
                DecodedPayload::Schema(schema) => schema,
                _ => return Err(self.broken("the answer does not begin with a schema")),
            },
            Some(Err(error)) => return Err(ClientError::from_flight(&self.url, 0, &error)),
            None => return Err(self.broken("the answer is empty")),
        };
        Ok(QueryStream { schema, decoder, rows: 0, url: self.url.clone(), failed: false })
    }

    async fn get(&self, command: &impl ProstMessageExt) -> Result<FlightDataDecoder, ClientError> {
        let request = self.request(Ticket::new(command.as_any().encode_to_vec()));
        let answer = self.inner.clone().do_get(request).await;
        let answer = answer.map_err(|status| ClientError::from_status(&self.url, 0, &status))?;
        let data = answer.into_inner().map_err(|status| FlightError::Tonic(Box::new(status)));
        Ok(FlightDataDecoder::new(data))
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        request
    }

    fn header(&self, value: &str) -> Result<MetadataValue<Ascii>, ClientError> {
        let mut header: MetadataValue<Ascii> =
            value.parse().map_err(|_| ClientError::Unauthenticated {
                url: self.url.clone(),
                message: "the token has characters that no header can carry".into(),
                version: None,
            })?;
        header.set_sensitive(true);
        Ok(header)
    }

    async fn handshake(&mut self, user: &str, password: &str) -> Result<(), ClientError> {
        self.authorization = Some(self.header(&Credentials::basic(user, password))?);
        let request = self.request(futures::stream::iter([HandshakeRequest::default()]));
        let answer = self.inner.handshake(request).await;
        let answer = answer.map_err(|status| ClientError::from_status(&self.url, 0, &status))?;
        // A server without credentials gives none out, and takes any.
        if let Some(token) = answer.metadata().get("authorization") {
            self.authorization = Some(token.clone());
        }
        Ok(())
    }

    /// The version, if the server says that it is Tapio's.
    async fn identify(&self) -> Result<String, ClientError> {
        let command = CommandGetSqlInfo {
            info: vec![SqlInfo::FlightSqlServerName as u32, SqlInfo::FlightSqlServerVersion as u32],
        };
        let other = |hint: String| ClientError::NotTapio { url: self.url.clone(), hint };
        let no_flight = "it speaks HTTP/2, but no Arrow Flight SQL";
        let answer = async {
            let mut decoder = self.get(&command).await?;
            let mut batches = Vec::new();
            while let Some(data) = decoder.next().await {
                let data = data.map_err(|e| ClientError::from_flight(&self.url, 0, &e))?;
                if let DecodedPayload::RecordBatch(batch) = data.payload {
                    batches.push(batch);
                }
            }
            Ok(batches)
        };
        let batches = match answer.await {
            Ok(batches) => batches,
            Err(
                error @ (ClientError::Unreachable { .. } | ClientError::Unauthenticated { .. }),
            ) => {
                return Err(error);
            }
            Err(ClientError::Gone { message, .. }) => {
                return Err(other(format!("{no_flight} ({message})")));
            }
            Err(ClientError::Server { code: Code::Unknown, .. } | ClientError::Sql(_)) => {
                return Err(other(no_flight.into()));
            }
            Err(error) => return Err(other(format!("{no_flight} ({error})"))),
        };
        let name = info_text(&batches, SqlInfo::FlightSqlServerName as u32);
        let version = info_text(&batches, SqlInfo::FlightSqlServerVersion as u32);
        match name {
            Some(name) if name == SERVER_NAME => Ok(version.unwrap_or_default()),
            Some(name) => Err(other(format!("it is a Flight SQL server called {name:?}"))),
            None => Err(other("it is a Flight SQL server that does not say its name".into())),
        }
    }

    fn broken(&self, message: &str) -> ClientError {
        ClientError::Server {
            url: self.url.clone(),
            code: Code::DataLoss,
            message: message.to_owned(),
        }
    }
}

/// The text of one SqlInfo value (columns `info_name`, `value` of the union type that Flight SQL defines).
fn info_text(batches: &[RecordBatch], wanted: u32) -> Option<String> {
    batches.iter().filter(|batch| batch.num_columns() == 2).find_map(|batch| {
        let names = batch.column(0).as_any().downcast_ref::<UInt32Array>()?;
        let values = batch.column(1).as_any().downcast_ref::<UnionArray>()?;
        let row = names.iter().position(|name| name == Some(wanted))?;
        let value = values.value(row);
        Some(value.as_string_opt::<i32>().filter(|text| text.len() == 1)?.value(0).to_owned())
    })
}

/// The rows of one query as they come.
pub struct QueryStream {
    schema: SchemaRef,
    decoder: FlightDataDecoder,
    rows: u64,
    url: String,
    failed: bool,
}

impl QueryStream {
    /// The columns; known before the first row.
    #[must_use]
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Rows that have arrived so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

impl Stream for QueryStream {
    type Item = Result<RecordBatch, ClientError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if self.failed {
                return Poll::Ready(None);
            }
            match ready!(self.decoder.poll_next_unpin(cx)) {
                None => return Poll::Ready(None),
                Some(Ok(data)) => {
                    if let DecodedPayload::RecordBatch(batch) = data.payload {
                        self.rows += batch.num_rows() as u64;
                        return Poll::Ready(Some(Ok(batch)));
                    }
                }
                Some(Err(error)) => {
                    self.failed = true;
                    let error = ClientError::from_flight(&self.url, self.rows, &error);
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }
}

/// What is behind an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A Tapio server.
    Tapio {
        /// Its version.
        version: String,
        /// Whether it wants credentials before it answers.
        auth_required: bool,
    },
    /// Nobody, and why.
    Absent(String),
    /// Somebody else, who counts as absent.
    NotFlight {
        /// What listens there and what to do.
        hint: String,
    },
}

/// Finds out within `deadline` (the CLI takes 200 ms) what is behind an address. Never fails: whatever it is, the
/// caller goes on.
pub async fn probe(url: &str, deadline: Duration) -> Probe {
    match FlightClient::connect(url, deadline).await {
        Ok(client) => Probe::Tapio { version: client.version, auth_required: false },
        Err(ClientError::Unauthenticated { version: Some(version), .. }) => {
            Probe::Tapio { version, auth_required: true }
        }
        Err(ClientError::NotTapio { hint, .. }) => Probe::NotFlight { hint },
        Err(ClientError::Unreachable { message, .. }) => Probe::Absent(message),
        Err(ClientError::Address(message)) => Probe::Absent(message),
        Err(error) => Probe::NotFlight { hint: error.to_string() },
    }
}
