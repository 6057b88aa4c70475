//! Where answers come from: a server, else the local store, else a few seconds of live observation.

use std::{path::Path, time::Duration};

use arrow::{array::RecordBatch, datatypes::SchemaRef};
use tapio_query::flight::{ClientError, FlightClient, Query};
use tapio_store::Store;

use crate::{
    Globals,
    engine::LocalEngine,
    error::CliError,
    live,
    model::{Degraded, Origin, SubjectReport},
    pack::{MANIFEST, Manifest, PackSource},
    time::{now_us, rfc3339},
    units::duration_words,
};

/// How long a server that was not asked for by name may take to answer.
const PROBE: Duration = Duration::from_millis(200);
/// How long one that was may take.
const CONNECT: Duration = Duration::from_secs(5);
/// A store whose newest row is older than this says nothing about now.
const FRESH_SECONDS: f64 = 300.0;

/// Whether an answer about now is wanted, or rows of any age will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    /// `check`, `why`, `fix`: old data are no answer, unless `--as-of` asks for them.
    Required,
    /// `sql`: history is what the user may want.
    Any,
}

enum Kind {
    Server(Box<FlightClient>),
    Store(LocalEngine),
    Live(LocalEngine),
}

/// Something that answers SQL.
pub struct Source {
    kind: Kind,
    detail: String,
    as_of: Option<i64>,
    data_through: Option<i64>,
    degraded: Vec<Degraded>,
    /// Keeps the folder of its write-ahead log until the last question is answered.
    _observation: Option<live::Observation>,
}

impl Source {
    /// Opens the best source there is (DESIGN §7): `--server` or `--store` alone if given, else a server that answers
    /// within 200 ms, else the store of the configuration if it is fresh, else live observation.
    ///
    /// # Errors
    /// Exit code 2: an explicit server that is not there, an explicit store that is missing or stale.
    pub async fn open(globals: &Globals, freshness: Freshness) -> Result<Self, CliError> {
        if globals.args.server.is_some() && globals.args.store.is_some() {
            return Err(CliError::tool("--server and --store name two sources: give one of them"));
        }
        if let Some(url) = &globals.args.server {
            let client = FlightClient::connect(url, CONNECT).await.map_err(CliError::tool)?;
            return Ok(Self::server(client, globals));
        }
        if let Some(store) = &globals.args.store {
            let dir = Path::new(store);
            if dir.join(MANIFEST).is_file() {
                return Self::pack(dir, globals);
            }
            return Self::fresh_store(globals, freshness).await;
        }
        if globals.config.correlation_enabled
            && let Some(client) = probe(&globals.config.correlation_server).await
        {
            return Ok(Self::server(client, globals));
        }
        match Self::fresh_store(globals, freshness).await {
            Ok(source) => return Ok(source),
            Err(why) => tracing::info!("not from the store: {why}"),
        }
        if globals.as_of_us.is_some() {
            return Err(CliError::tool(format!(
                "--as-of needs a server or a store, and there is neither at {} nor at {}; name one with --server or --store",
                globals.config.correlation_server, globals.config.storage_url
            )));
        }
        Self::live(globals).await
    }

    fn server(client: FlightClient, globals: &Globals) -> Self {
        let detail = client.url().to_owned();
        Self {
            kind: Kind::Server(Box::new(client)),
            detail,
            as_of: globals.as_of_us,
            data_through: None,
            degraded: Vec::new(),
            _observation: None,
        }
    }

    /// A recording in the place of a store: what was known at its end, or at `--as-of`.
    fn pack(dir: &Path, globals: &Globals) -> Result<Self, CliError> {
        let manifest = Manifest::read(dir).map_err(CliError::tool)?;
        let pack = PackSource::open(dir, &manifest).map_err(CliError::tool)?;
        let (_, end) = pack.ticks();
        let engine = LocalEngine::new(Store::memory(), pack, &globals.config)?;
        Ok(Self {
            kind: Kind::Store(engine),
            detail: dir.display().to_string(),
            as_of: globals.as_of_us.or(Some(end)),
            data_through: Some(end),
            degraded: Vec::new(),
            _observation: None,
        })
    }

    async fn store(globals: &Globals) -> Result<Self, CliError> {
        let url = &globals.config.storage_url;
        let store = Store::open(url, false).map_err(CliError::tool)?;
        let data_through = data_through(&store).await?.ok_or_else(|| {
            CliError::tool(format!(
                "the store {url} holds no rows yet; start tapio-server to fill it, or name another with --store"
            ))
        })?;
        let engine = LocalEngine::over_store(store, &globals.config).map_err(CliError::tool)?;
        Ok(Self {
            kind: Kind::Store(engine),
            detail: url.clone(),
            as_of: globals.as_of_us.or(Some(data_through)),
            data_through: Some(data_through),
            degraded: Vec::new(),
            _observation: None,
        })
    }

    async fn fresh_store(globals: &Globals, freshness: Freshness) -> Result<Self, CliError> {
        let source = Self::store(globals).await?;
        source.must_be_fresh(globals, freshness)?;
        Ok(source)
    }

    fn must_be_fresh(&self, globals: &Globals, freshness: Freshness) -> Result<(), CliError> {
        let through = self.data_through.unwrap_or_default();
        let age = (globals.now_us - through) as f64 / 1e6;
        if freshness == Freshness::Any || globals.as_of_us.is_some() || age <= FRESH_SECONDS {
            return Ok(());
        }
        Err(CliError::tool(format!(
            "the store {} is stale: its newest data are {} old (data through {}); ask the tapio-server that writes it \
             (--server), start one, or ask about the past with --as-of {}",
            self.detail,
            duration_words(age),
            rfc3339(through),
            rfc3339(through)
        )))
    }

    async fn live(globals: &Globals) -> Result<Self, CliError> {
        let (engine, observation) = live::observe(&globals.config).await?;
        let data_through = observation.data_through_us();
        Ok(Self {
            detail: duration_words(observation.seconds().round()),
            degraded: observation.degraded(),
            kind: Kind::Live(engine),
            as_of: data_through,
            data_through,
            _observation: Some(observation),
        })
    }

    /// Asks. `as_of` = `None` leaves it to the source.
    ///
    /// # Errors
    /// Exit code 2: a wrong statement (with its place and a hint), a server that went away, a limit.
    pub async fn query(
        &self,
        sql: &str,
        as_of: Option<i64>,
    ) -> Result<(SchemaRef, Vec<RecordBatch>), CliError> {
        let as_of = as_of.or(self.as_of);
        match &self.kind {
            Kind::Server(client) => {
                let query = match as_of {
                    Some(us) => Query::new(sql).as_of_us(us),
                    None => Query::new(sql),
                };
                client.query(query).await.map_err(|e| match e {
                    ClientError::Sql(problem) => CliError::tool(problem),
                    other => CliError::tool(other),
                })
            }
            Kind::Store(engine) | Kind::Live(engine) => engine.query(sql, as_of).await,
        }
    }

    /// The time to ask about; `None` = what the server takes by default, its newest data.
    pub fn as_of(&self) -> Option<i64> {
        self.as_of
    }

    /// What could not be observed, beyond what `tapio_degraded` says.
    pub fn degraded(&self) -> &[Degraded] {
        &self.degraded
    }

    /// For the human who opens a session.
    pub fn describe(&self) -> String {
        match self.kind {
            Kind::Server(_) => format!("Asking the server {}", self.detail),
            Kind::Store(_) => format!("Reading the store {}", self.detail),
            Kind::Live(_) => format!("From {} of live observation of this machine", self.detail),
        }
    }

    /// What to say about the origin of an answer: its time is the server's default where none was asked for, which
    /// each row shows (`ts` + `age_seconds`).
    pub fn origin(&self, reports: &[SubjectReport]) -> Origin {
        let answered =
            reports.iter().find_map(|r| Some(r.ts? + (r.age_seconds? * 1e6).round() as i64));
        let newest = reports.iter().filter_map(|r| r.ts).max();
        let as_of = self.as_of.or(answered);
        let data_through = match self.kind {
            // By default a server answers as of its newest data.
            Kind::Server(_) if self.as_of.is_none() => answered,
            Kind::Server(_) => newest,
            _ => self.data_through,
        };
        let source = match self.kind {
            Kind::Server(_) => "server",
            Kind::Store(_) => "store",
            Kind::Live(_) => "live",
        };
        Origin { source, detail: self.detail.clone(), as_of, data_through }
    }
}

/// A Tapio server behind the address, or `None`; a stranger that listens there is named on stderr.
async fn probe(address: &str) -> Option<FlightClient> {
    match FlightClient::connect(address, PROBE).await {
        Ok(client) => Some(client),
        Err(ClientError::Unreachable { .. }) => None,
        Err(e) => {
            eprintln!(
                "note: {e}; going on without a server (correlation.server says where to look, \
                 correlation.enabled: false stops looking)"
            );
            None
        }
    }
}

/// `observed_at` of the newest stored row of `resources`, by the statistics in the log.
async fn data_through(store: &Store) -> Result<Option<i64>, CliError> {
    let Some(def) = tapio_sql::catalog().get("resources") else { return Ok(None) };
    let snapshot = store.table(def).snapshot().await.map_err(CliError::tool)?;
    let newest = snapshot.files.values().filter_map(|f| f.ranges.get("observed_at")).map(|r| r.max);
    // Statistics are cut to milliseconds and widened by 999 µs; that may lie in the future.
    Ok(newest.max().map(|t| t.min(now_us())))
}
