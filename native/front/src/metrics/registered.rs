//! How many metrics there are, by how stable they are, as component-base's registry counts its own.

use std::collections::BTreeMap;
use std::fmt::Write;

const NAME: &str = "registered_metrics_total";

/// Prometheus text: counted are those that this text describes, and this one.
pub(crate) fn render_registered(text: &[u8]) -> String {
    let mut out = format!(
        "# HELP {NAME} [BETA] The count of registered metrics broken by stability level and deprecation version.\n\
         # TYPE {NAME} counter\n"
    );
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let described = text.split(|byte| *byte == b'\n').filter(|line| line.starts_with(b"# HELP "));
    for line in described.chain([out.as_bytes()]) {
        let kind = std::str::from_utf8(line).ok().and_then(kind_of);
        kind.into_iter().for_each(|kind| *counts.entry(kind).or_default() += 1);
    }
    let mut lines = String::new();
    for ((level, deprecated), count) in counts {
        let labels = format!("deprecated_version=\"{deprecated}\",stability_level=\"{level}\"");
        let _ = writeln!(lines, "{NAME}{{{labels}}} {count}");
    }
    out.push_str(&lines);
    out
}

/// How stable a metric is, and since when it is deprecated, if it is; None for those that are not Kubernetes' own.
fn kind_of(described: &str) -> Option<(&str, &str)> {
    let (_, told) = described.strip_prefix("# HELP ")?.split_once(' ')?;
    let (level, told) = told.strip_prefix('[')?.split_once("] ")?;
    let deprecated = told.strip_prefix("(Deprecated since ").and_then(|rest| rest.split_once(')'));
    Some((level, deprecated.map_or("", |(version, _)| version)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_counted_by_how_stable_they_are_and_since_when_deprecated() {
        let text = "# HELP a [ALPHA] A.\n# TYPE a counter\na 1\n# HELP b [ALPHA] (Deprecated since 1.33.0) B.\n\
                    # HELP c [STABLE] C.\n# HELP process_cpu_seconds_total No level.\n# HELP d [ALPHA] D.\n";
        let told = render_registered(text.as_bytes());
        let counted: Vec<&str> = told.lines().filter_map(|line| line.strip_prefix(NAME)).collect();
        assert_eq!(
            counted,
            [
                r#"{deprecated_version="",stability_level="ALPHA"} 2"#,
                r#"{deprecated_version="1.33.0",stability_level="ALPHA"} 1"#,
                r#"{deprecated_version="",stability_level="BETA"} 1"#,
                r#"{deprecated_version="",stability_level="STABLE"} 1"#,
            ]
        );
    }
}
