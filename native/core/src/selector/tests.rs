//! Laws of selectors.

use proptest::prelude::*;

use super::*;

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,3}",
        Just("in".to_owned()),
        Just("notin".to_owned()),
        "[a-z]([-a-z0-9]{0,5}[a-z0-9])?\\.io/[A-Za-z0-9]([A-Za-z0-9_.-]{0,8}[A-Za-z0-9])?"
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]{0,1}",
        "[A-Za-z0-9]([A-Za-z0-9_.-]{0,8}[A-Za-z0-9])?",
        "-?[0-9]{1,3}".prop_filter("label", |v| !v.starts_with('-'))
    ]
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let one = (name(), value(), 0usize..3).prop_map(|(key, value, which)| {
        let operator = [Operator::Equals, Operator::DoubleEquals, Operator::NotEquals][which];
        Requirement::new(&key, operator, [value])
    });
    let many = (name(), prop::collection::btree_set(value(), 1..4), any::<bool>()).prop_map(
        |(key, values, inside)| {
            Requirement::new(&key, if inside { Operator::In } else { Operator::NotIn }, values)
        },
    );
    let bare = (name(), any::<bool>()).prop_map(|(key, there)| {
        Requirement::new(&key, if there { Operator::Exists } else { Operator::DoesNotExist }, [])
    });
    let ordered = (name(), 0u16..999, any::<bool>()).prop_map(|(key, bound, above)| {
        let operator = if above { Operator::GreaterThan } else { Operator::LessThan };
        Requirement::new(&key, operator, [bound.to_string()])
    });
    prop_oneof![one, many, bare, ordered].prop_map(|made| made.expect("made of valid parts"))
}

/// Such as concern one of a few labels with a few values.
fn crowded() -> impl Strategy<Value = Requirement> {
    use Operator::*;
    const OPERATORS: [Operator; 9] =
        [Equals, DoubleEquals, NotEquals, In, NotIn, Exists, DoesNotExist, GreaterThan, LessThan];
    let values = prop::collection::btree_set("[0-9]", 1..9);
    ("[a-p]", prop::sample::select(&OPERATORS[..]), values).prop_map(|(key, operator, values)| {
        let most = match operator {
            In | NotIn => values.len(),
            Exists | DoesNotExist => 0,
            _ => 1,
        };
        Requirement::new(&key, operator, values.into_iter().take(most)).expect("made of valid parts")
    })
}

fn crowded_labels() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::btree_map("[a-p]", "[0-9x]", 0..16).prop_map(|labels| labels.into_iter().collect())
}

fn labels() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::btree_map(name(), value(), 0..5).prop_map(|labels| labels.into_iter().collect())
}

proptest! {
    #[test]
    fn a_selector_reads_back_as_it_is_written(requirements in prop::collection::vec(requirement(), 0..5)) {
        let selector = LabelSelector::of(requirements);
        prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
    }

    #[test]
    fn all_requirements_must_hold(requirements in prop::collection::vec(requirement(), 0..4), labels in labels()) {
        let each = requirements.iter().all(|requirement| requirement.matches(&labels));
        prop_assert_eq!(LabelSelector::of(requirements).matches(&labels), each);
    }

    #[test]
    fn many_requirements_on_the_same_labels_must_all_hold(
        // The more there are, the likelier one is that does not hold: few of each other count, too.
        requirements in prop_oneof![
            prop::collection::vec(crowded(), 0..6),
            prop::collection::vec(crowded(), 0..40),
            prop::collection::vec(
                crowded().prop_filter("mostly true", |one| one.operator() == Operator::NotEquals), 9..40,
            ),
        ],
        labels in crowded_labels(),
    ) {
        let each = requirements.iter().all(|requirement| requirement.matches(&labels));
        prop_assert_eq!(LabelSelector::of(requirements).matches(&labels), each);
    }

    #[test]
    fn opposites_exclude_each_other(key in name(), values in prop::collection::btree_set(value(), 1..4), labels in labels()) {
        let matches = |operator, values: Vec<String>| {
            Requirement::new(&key, operator, values).expect("valid").matches(&labels)
        };
        let values: Vec<String> = values.into_iter().collect();
        prop_assert_ne!(matches(Operator::In, values.clone()), matches(Operator::NotIn, values.clone()));
        prop_assert_ne!(matches(Operator::Exists, vec![]), matches(Operator::DoesNotExist, vec![]));
        let one = vec![values[0].clone()];
        prop_assert_ne!(matches(Operator::Equals, one.clone()), matches(Operator::NotEquals, one.clone()));
        prop_assert_eq!(matches(Operator::Equals, one.clone()), matches(Operator::In, one));
        prop_assert!(matches(Operator::Exists, vec![]) || !matches(Operator::In, values));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "[a-c!=<>(), /inot.\\-\u{0}é]{0,24}") {
        if let Ok(selector) = LabelSelector::parse(&text) {
            prop_assert_eq!(LabelSelector::parse(&selector.to_string()), Ok(selector));
        }
    }

    #[test]
    fn a_field_selector_reads_back_as_it_is_written(terms in prop::collection::vec(("[a-z.]{1,8}", r"[a-z=,\\ !é]{0,8}", any::<bool>()), 0..4)) {
        let mut terms: Vec<_> = terms
            .into_iter()
            .map(|(field, value, negated)| FieldRequirement { field: field.into(), value: value.into(), negated })
            .collect();
        let selector = FieldSelector::of(terms.clone());
        let mut read = FieldSelector::parse(&selector.to_string()).expect("valid").requirements().to_vec();
        terms.sort();
        read.sort();
        prop_assert_eq!(read, terms);
    }

    #[test]
    fn any_text_is_a_field_selector_or_refused(text in r"[ab=!,\\é]{0,16}") {
        let _ = FieldSelector::parse(&text);
    }
}

#[test]
fn a_value_longer_than_63_characters_is_refused() {
    let error = LabelSelector::parse(&format!("a={}", "x".repeat(64))).expect_err("too long");
    assert!(error.0.contains("must be no more than 63 bytes"), "{error}");
}

#[test]
fn thousands_of_terms_are_right_about_an_object_with_very_many_labels() {
    let terms: Vec<String> = (0..8_000).map(|number| format!("a!={number},k{number}!=x")).collect();
    let selector = LabelSelector::parse(&terms.join(",")).expect("valid");
    let labels: Vec<(String, String)> =
        (0..180_000).map(|number| (format!("l{number}"), "v".into())).collect();
    assert!(selector.matches(&labels));
    for last in [("a", "7999"), ("k7999", "x")] {
        let last = (last.0.to_owned(), last.1.to_owned());
        assert!(!selector.matches(&[labels.clone(), vec![last]].concat()));
    }
}
