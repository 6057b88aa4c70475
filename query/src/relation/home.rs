//! What all sessions of an engine are made from.

use std::sync::{Arc, Weak};

use datafusion::{
    catalog::{
        CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
        MemorySchemaProvider, SchemaProvider,
    },
    execution::{FunctionRegistry, SessionState},
};
use tapio_sql::PatternCatalog;
use tapio_store::TableLog;

use super::{Function, Kind, Place, pool::Pool};
use crate::{
    clock::{AsOf, Clock, read_clock},
    error::Names,
    table::{Shared, TapioTable},
};

pub(crate) const CATALOG: &str = "tapio";
pub(crate) const SCHEMA: &str = "public";

/// Tables, patterns and functions; sessions differ only in the time they look at.
#[derive(Debug)]
pub(crate) struct Home {
    /// Functions, settings and limits.
    pub(crate) base: SessionState,
    pub(crate) logs: Vec<TableLog>,
    pub(crate) shared: Shared,
    pub(crate) patterns: PatternCatalog,
    pub(crate) pool: Arc<Pool>,
    pub(crate) me: Weak<Home>,
}

impl Home {
    /// The session of a statement: its tables hold what was known at `tables` (all, if `None`) and its relations speak
    /// about `as_of` unless their call says otherwise; both in µs.
    pub(crate) fn state(&self, tables: Option<i64>, as_of: i64) -> SessionState {
        let clock = Arc::new(Clock::default());
        clock.set(as_of);
        self.session(tables.map_or(AsOf::All, AsOf::At), clock, Place::Statement { as_of })
    }

    /// The session of a relation: everything in it follows the clock.
    pub(super) fn late(&self, clock: &Arc<Clock>) -> SessionState {
        self.session(AsOf::Late(clock.clone()), clock.clone(), Place::Within(clock.clone()))
    }

    fn session(&self, tables: AsOf, clock: Arc<Clock>, place: Place) -> SessionState {
        let schema = MemorySchemaProvider::new();
        for log in &self.logs {
            let table = TapioTable::new(log.clone(), self.shared.clone(), tables.clone());
            // Cannot fail: the names differ.
            let _ = schema.register_table(log.def().name.clone(), Arc::new(table));
        }
        let catalog = MemoryCatalogProvider::new();
        let _ = catalog.register_schema(SCHEMA, Arc::new(schema));
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.into(), Arc::new(catalog));
        let mut state = self.base.clone();
        state.register_catalog_list(Arc::new(catalogs));
        for function in self.functions(&place) {
            state.register_udtf(&function.name.clone(), Arc::new(function));
        }
        // Cannot fail: a session takes every function.
        let _ = state.register_udf(Arc::new(read_clock(clock)));
        state
    }

    /// Our table functions.
    fn functions(&self, place: &Place) -> Vec<Function> {
        let mut functions = Vec::new();
        let mut add = |name: &str, parameters: &[tapio_sql::Parameter], kind: Kind| {
            functions.push(Function {
                name: name.to_owned(),
                parameters: parameters.to_vec(),
                kind,
                home: self.me.clone(),
                place: place.clone(),
            });
        };
        add("tapio_findings", &[], Kind::Findings);
        add("tapio_patterns", &[], Kind::Patterns);
        add("tapio_degraded", &[], Kind::Degraded);
        for r in tapio_sql::relations() {
            add(&r.name, &r.parameters, Kind::Relation { sql: r.sql.clone() });
        }
        for p in self.patterns.iter() {
            add(&p.name, &p.parameters, Kind::Pattern { sql: p.sql.clone() });
        }
        functions
    }

    /// What a user may have meant.
    pub(crate) fn names(&self) -> Names {
        let mut functions: Vec<String> = self
            .base
            .scalar_functions()
            .keys()
            .chain(self.base.aggregate_functions().keys())
            .chain(self.base.window_functions().keys())
            .cloned()
            .collect();
        functions.sort();
        let ours = self.functions(&Place::Statement { as_of: 0 });
        let mut table_functions: Vec<String> = ours.into_iter().map(|f| f.name).collect();
        table_functions.extend(self.base.table_functions().keys().cloned());
        table_functions.sort();
        let tables = self.logs.iter().map(|l| l.def().name.clone()).collect();
        Names { tables, table_functions, functions }
    }
}
