//! Selectors for kubecore.api.selectors.

use kubecore_core::selector::{
    FieldSelector as CoreFields, LabelSelector as CoreLabels, LabelSelectorSpec, Operator, RequirementSpec,
    SelectorError,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

fn refused(error: &SelectorError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// String pairs out of a Python mapping.
fn pairs(mapping: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    if let Ok(dict) = mapping.cast::<PyDict>() {
        return dict.iter().map(|(key, value)| Ok((key.extract()?, value.extract()?))).collect();
    }
    mapping.call_method0("items")?.try_iter()?.map(|pair| pair?.extract()).collect()
}

/// Those labels of a Python mapping that a selector asks for: mostly one or two of many.
fn asked_for(selector: &CoreLabels, labels: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    let Ok(dict) = labels.cast::<PyDict>() else { return pairs(labels) };
    let mut found = Vec::with_capacity(selector.requirements().len());
    let mut asked = None;
    for requirement in selector.requirements() {
        // They are in the order of their keys, of which each is wanted once.
        if asked.replace(requirement.key()) == Some(requirement.key()) {
            continue;
        }
        if let Some(value) = dict.get_item(requirement.key())? {
            found.push((requirement.key().to_owned(), value.extract()?));
        }
    }
    Ok(found)
}

#[pyclass(frozen, eq, hash, module = "kubecore._native")]
#[derive(PartialEq, Eq, Hash)]
pub struct LabelSelector {
    core: CoreLabels,
}

#[pymethods]
impl LabelSelector {
    #[staticmethod]
    fn parse(selector: &str) -> PyResult<Self> {
        CoreLabels::parse(selector).map(|core| Self { core }).map_err(|error| refused(&error))
    }

    #[staticmethod]
    fn from_label_selector(selector: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let spec = selector.map(spec).transpose()?;
        CoreLabels::from_spec(spec.as_ref()).map(|core| Self { core }).map_err(|error| refused(&error))
    }

    fn matches(&self, labels: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        if self.core.is_empty() {
            return Ok(true);
        }
        let labels = labels.filter(|labels| !labels.is_none());
        let labels = labels.map(|labels| asked_for(&self.core, labels)).transpose()?.unwrap_or_default();
        Ok(self.core.matches(&labels))
    }

    /// (key, operator, values) each; the operators are In, NotIn, Exists, DoesNotExist, Gt and Lt.
    fn requirements(&self) -> Vec<(&str, &'static str, Vec<&str>)> {
        let terms = self.core.requirements().iter();
        terms.map(|term| (term.key(), operator(term.operator()), term.values().collect())).collect()
    }

    #[getter]
    fn empty(&self) -> bool {
        self.core.is_empty()
    }

    fn __str__(&self) -> String {
        self.core.to_string()
    }

    fn __repr__(&self) -> String {
        format!("LabelSelector({:?})", self.core.to_string())
    }
}

/// As Kubernetes' objects name an operator.
fn operator(operator: Operator) -> &'static str {
    match operator {
        Operator::Equals | Operator::DoubleEquals | Operator::In => "In",
        Operator::NotEquals | Operator::NotIn => "NotIn",
        Operator::Exists => "Exists",
        Operator::DoesNotExist => "DoesNotExist",
        Operator::GreaterThan => "Gt",
        Operator::LessThan => "Lt",
    }
}

fn spec(selector: &Bound<'_, PyAny>) -> PyResult<LabelSelectorSpec> {
    let member = |of: &Bound<'_, PyAny>, name: &str| -> PyResult<Option<Py<PyAny>>> {
        let value = of.call_method1("get", (PyString::new(of.py(), name),))?;
        Ok((!value.is_none()).then(|| value.unbind()))
    };
    let py = selector.py();
    let mut spec = LabelSelectorSpec::default();
    if let Some(labels) = member(selector, "matchLabels")? {
        spec.match_labels = pairs(labels.bind(py))?.into_iter().collect();
    }
    if let Some(expressions) = member(selector, "matchExpressions")? {
        for expression in expressions.bind(py).try_iter()? {
            let expression = expression?;
            let text = |name| -> PyResult<String> {
                member(&expression, name)?.map_or_else(|| Ok(String::new()), |value| value.extract(py))
            };
            let values = member(&expression, "values")?;
            spec.match_expressions.push(RequirementSpec {
                key: text("key")?,
                operator: text("operator")?,
                values: values.map_or_else(|| Ok(Vec::new()), |values| values.extract(py))?,
            });
        }
    }
    Ok(spec)
}

#[pyclass(frozen, eq, hash, module = "kubecore._native")]
#[derive(PartialEq, Eq, Hash)]
pub struct FieldSelector {
    core: CoreFields,
}

#[pymethods]
impl FieldSelector {
    #[staticmethod]
    fn parse(selector: &str) -> PyResult<Self> {
        CoreFields::parse(selector).map(|core| Self { core }).map_err(|error| refused(&error))
    }

    fn matches(&self, fields: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.core.matches(&pairs(fields)?))
    }

    /// (field, "=" or "!=", value) each.
    fn requirements(&self) -> Vec<(&str, &'static str, &str)> {
        let terms = self.core.requirements().iter();
        terms.map(|term| (&*term.field, if term.negated { "!=" } else { "=" }, &*term.value)).collect()
    }

    #[getter]
    fn empty(&self) -> bool {
        self.core.is_empty()
    }

    fn __str__(&self) -> String {
        self.core.to_string()
    }

    fn __repr__(&self) -> String {
        format!("FieldSelector({:?})", self.core.to_string())
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<LabelSelector>()?;
    module.add_class::<FieldSelector>()
}
