//! How long the certificates that clients are known by still hold, under Kubernetes' name (apiserver
//! `pkg/authentication/request/x509`).

use crate::metrics::Sharded;

const NAME: &str = "apiserver_client_certificate_expiration_seconds";
/// Upper bounds in seconds: from half an hour to a year, and what has none left.
const BOUNDS: [f64; 14] = [
    0.0,
    1_800.0,
    3_600.0,
    7_200.0,
    21_600.0,
    43_200.0,
    86_400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
];

#[derive(Default)]
pub struct Expirations(Sharded<{ BOUNDS.len() + 1 }>);

impl Expirations {
    pub(super) fn observe(&self, seconds: f64) {
        self.0.observe(&BOUNDS, seconds);
    }

    /// Prometheus text.
    pub fn render(&self) -> String {
        let mut out = format!(
            "# HELP {NAME} [ALPHA] Distribution of the remaining lifetime on the certificate used to authenticate a \
             request.\n# TYPE {NAME} histogram\n"
        );
        self.0.merged().render(&mut out, NAME, "", &BOUNDS);
        out
    }
}
