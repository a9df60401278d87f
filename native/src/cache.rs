//! `WatchCache`: what Python fills and reads; see native/core/src/watch_cache.

use std::sync::Arc;

use bytes::Bytes;
use kubecore_core::selector::{FieldSelector, LabelSelector};
use kubecore_core::status::Status;
use kubecore_core::watch_cache::{
    At, Bounds, Change, ContinueToken, Filter, Json, List, ListQuery, Page, PartialMetadata, PublishError,
    ReadOptions, ResourceCache, ResourceId, ResourceInfo, SelectableField, Transcoder, WatchCache as Core,
};
use pyo3::exceptions::{PyKeyError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyList};

use crate::clock::Clock;
use crate::error::status_error;
use crate::gil::released;
use crate::subscriptions::Subscriptions;

#[pyclass(frozen, module = "kubecore._native")]
pub struct WatchCache {
    pub core: Arc<Core>,
}

/// (resource, 0 put or 1 delete, key, revision, object)
type PyChange = (ResourceId, u8, PyBackedStr, u64, PyBackedBytes);

fn change((resource, kind, key, revision, object): PyChange) -> Change {
    Change {
        resource,
        deleted: kind == 1,
        key: Arc::from(&*key),
        revision,
        object: Bytes::copy_from_slice(&object),
    }
}

pub fn refused(error: &PublishError) -> PyErr {
    match error {
        PublishError::UnknownResource(_) => PyKeyError::new_err(error.to_string()),
        PublishError::BadObject { .. } => PyValueError::new_err(error.to_string()),
    }
}

/// When any of several resources was changed last.
#[pyclass(frozen, module = "kubecore._native")]
struct Changes {
    resources: Vec<Arc<ResourceCache>>,
}

#[pymethods]
impl Changes {
    #[getter]
    fn revision(&self) -> u64 {
        self.resources.iter().map(|resource| resource.changed()).max().unwrap_or_default()
    }
}

impl WatchCache {
    pub fn resource(&self, id: ResourceId) -> PyResult<Arc<ResourceCache>> {
        self.core.resource(id).ok_or_else(|| refused(&PublishError::UnknownResource(id)))
    }
}

#[pymethods]
impl WatchCache {
    #[new]
    #[pyo3(signature = (*, history = None, clock = None))]
    fn new(history: Option<usize>, clock: Option<&Clock>) -> Self {
        let clock = clock.map(|clock| clock.core.clone()).unwrap_or_default();
        Self { core: Core::new(history.map_or_else(Bounds::default, Bounds::events), clock) }
    }

    #[pyo3(signature = (key, group, plural, storage_version, kind, namespaced, versions, selectable_fields, *, list_kind = String::new(), custom = false, empty = Vec::new()))]
    #[allow(clippy::too_many_arguments)] // the resource's facts, one by one
    fn register(
        &self,
        key: String,
        group: String,
        plural: String,
        storage_version: String,
        kind: String,
        namespaced: bool,
        versions: Vec<String>,
        selectable_fields: Vec<(PyBackedStr, PyBackedStr)>,
        list_kind: String,
        custom: bool,
        empty: Vec<(String, PyBackedBytes)>,
    ) -> ResourceId {
        let selectable_fields =
            selectable_fields.iter().map(|(label, pointer)| SelectableField::new(label, pointer)).collect();
        let info = ResourceInfo {
            key,
            group,
            plural,
            kind,
            list_kind,
            custom,
            storage_version,
            namespaced,
            versions,
            selectable_fields,
            empty: empty
                .into_iter()
                .map(|(version, members)| (version, Bytes::copy_from_slice(&members)))
                .collect(),
        };
        self.core.register(info)
    }

    fn unregister(&self, py: Python<'_>, resource: ResourceId) -> PyResult<()> {
        released(py, || self.core.unregister(resource))
    }

    fn load(
        &self,
        py: Python<'_>,
        resource: ResourceId,
        items: Vec<(PyBackedStr, u64, PyBackedBytes)>,
    ) -> PyResult<()> {
        let items = items
            .into_iter()
            .map(|(key, revision, object)| (Arc::from(&*key), revision, Bytes::copy_from_slice(&object)))
            .collect();
        released(py, || self.core.load(resource, items))?.map_err(|error| refused(&error))
    }

    #[pyo3(signature = (events, previous = None))]
    fn replay(
        &self,
        py: Python<'_>,
        events: Vec<PyChange>,
        previous: Option<Vec<Option<PyBackedBytes>>>,
    ) -> PyResult<()> {
        let mut before = previous.unwrap_or_default();
        before.resize_with(events.len(), || None);
        let changes = events
            .into_iter()
            .zip(before)
            .map(|(event, before)| (change(event), before.map(|json| Bytes::copy_from_slice(&json))))
            .collect();
        released(py, || self.core.replay(changes))?.map_err(|error| refused(&error))
    }

    fn publish(&self, py: Python<'_>, revision: u64, events: Vec<PyChange>) -> PyResult<()> {
        let changes = events.into_iter().map(change).collect();
        released(py, || self.core.publish(revision, changes))?.map_err(|error| refused(&error))
    }

    fn progress(&self, py: Python<'_>, revision: u64) -> PyResult<()> {
        released(py, || self.core.progress(revision))
    }

    fn compacted(&self, py: Python<'_>, revision: u64) -> PyResult<()> {
        released(py, || self.core.compacted(revision))
    }

    #[getter]
    fn revision(&self) -> u64 {
        self.core.revision()
    }

    fn get<'py>(
        &self,
        py: Python<'py>,
        resource: ResourceId,
        namespace: &str,
        name: &str,
    ) -> PyResult<Option<(u64, Bound<'py, PyBytes>)>> {
        let object = self.resource(resource)?.get(namespace, name);
        Ok(object.map(|object| (object.revision(), PyBytes::new(py, object.json()))))
    }

    /// The revision of the resource's last change.
    fn changed(&self, resource: ResourceId) -> PyResult<u64> {
        Ok(self.resource(resource)?.changed())
    }

    fn changes(&self, resources: Vec<ResourceId>) -> PyResult<Changes> {
        let resources = resources.into_iter().map(|id| self.resource(id)).collect::<PyResult<_>>()?;
        Ok(Changes { resources })
    }

    /// Objects in a namespace, or all.
    #[pyo3(signature = (resource, namespace = None))]
    fn count(&self, resource: ResourceId, namespace: Option<&str>) -> PyResult<usize> {
        let resource = self.resource(resource)?;
        Ok(namespace.map_or_else(|| resource.len(), |namespace| resource.count_in(namespace)))
    }

    #[pyo3(signature = (resource, namespace = None, label_selector = "", field_selector = "", limit = 0, start = None, at = None))]
    #[allow(clippy::too_many_arguments)] // a list's parameters, as in the API
    fn list(
        &self,
        py: Python<'_>,
        resource: ResourceId,
        namespace: Option<&str>,
        label_selector: &str,
        field_selector: &str,
        limit: usize,
        start: Option<&str>,
        at: Option<u64>,
    ) -> PyResult<Listing> {
        let resource = self.resource(resource)?;
        let page = released(py, || {
            let at = match (start, at) {
                (Some(token), _) => At::Continue(ContinueToken::decode(token)?),
                (None, Some(revision)) => At::Exact(revision),
                (None, None) => At::Latest,
            };
            let filter = filter(&resource, namespace, label_selector, field_selector)?;
            resource.page(&ListQuery { filter, limit, at })
        })?;
        Ok(Listing { page: page.map_err(|status| status_error(py, &status))? })
    }

    /// A list by the query string of its request.
    #[pyo3(signature = (resource, query, namespace = None, name = None))]
    fn query(
        &self,
        py: Python<'_>,
        resource: ResourceId,
        query: &str,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> PyResult<Listing> {
        let resource = self.resource(resource)?;
        let page = released(py, || {
            let options = ReadOptions::parse(query)?;
            resource.page(&options.list_query(resource.info(), namespace, name)?)
        })?;
        Ok(Listing { page: page.map_err(|status| status_error(py, &status))? })
    }

    /// The body that answers a list's request.
    #[pyo3(signature = (resource, query, namespace = None, name = None, *, version = None, metadata_only = false))]
    #[allow(clippy::too_many_arguments)] // a request's parts
    fn list_body<'py>(
        &self,
        py: Python<'py>,
        resource: ResourceId,
        query: &str,
        namespace: Option<&str>,
        name: Option<&str>,
        version: Option<&str>,
        metadata_only: bool,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let resource = self.resource(resource)?;
        let list: Result<List, Status> = released(py, || {
            let transcoder = transcoder(&resource, version, metadata_only)?;
            let options = ReadOptions::parse(query)?;
            resource.list(&options.list_query(resource.info(), namespace, name)?, &*transcoder)
        })?;
        let list = list.map_err(|status| status_error(py, &status))?;
        PyBytes::new_with(py, list.length, |mut body| {
            for segment in &list.segments {
                let (place, rest) = body.split_at_mut(segment.len());
                place.copy_from_slice(segment);
                body = rest;
            }
            Ok(())
        })
    }

    fn subscriptions(&self) -> PyResult<Subscriptions> {
        Subscriptions::new(Arc::clone(&self.core))
    }
}

pub fn filter(
    resource: &ResourceCache,
    namespace: Option<&str>,
    label_selector: &str,
    field_selector: &str,
) -> Result<Filter, Status> {
    let labels = LabelSelector::parse(label_selector).map_err(|error| Status::bad_request(error.0))?;
    let fields = FieldSelector::parse(field_selector).map_err(|error| Status::bad_request(error.0))?;
    Filter::new(resource.info(), namespace, labels, &fields)
}

/// JSON in a served version (None: the stored one), or metadata alone.
fn transcoder(
    resource: &ResourceCache,
    version: Option<&str>,
    metadata_only: bool,
) -> Result<Box<dyn Transcoder>, Status> {
    if metadata_only {
        return Ok(Box::new(PartialMetadata));
    }
    let Some(version) = version else { return Ok(Box::new(Json::stored())) };
    let json = Json::version(resource.info(), version).ok_or_else(Status::unknown_path)?;
    Ok(Box::new(json))
}

/// One list or page.
#[pyclass(frozen, module = "kubecore._native")]
pub struct Listing {
    page: Page,
}

#[pymethods]
impl Listing {
    #[getter]
    fn revision(&self) -> u64 {
        self.page.meta.revision
    }

    #[getter]
    fn items<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let items = PyList::empty(py);
        for object in self.page.objects() {
            items.append(PyBytes::new(py, object.json()))?;
        }
        Ok(items)
    }

    #[getter]
    fn next(&self) -> Option<&str> {
        self.page.meta.continue_token.as_deref()
    }

    #[getter]
    fn remaining(&self) -> Option<usize> {
        self.page.meta.remaining
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<WatchCache>()?;
    module.add_class::<Changes>()?;
    module.add_class::<Listing>()?;
    module.add_class::<Subscriptions>()
}
