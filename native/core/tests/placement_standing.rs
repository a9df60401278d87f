//! What is remembered of the nodes for pods that fit nowhere follows every change: `Placer` against one that looks for
//! the first time.

use kubecore_core::placement::{Diagnosis, Id, Placer, Profile, Rehearsal, Slot, Table, Wish};

const PROFILE: &[u8] =
    br#"{"filters":["NodeUnschedulable","TaintToleration","NodeAffinity","NodePorts","NodeResourcesFit"],
    "scores":[["NodeResourcesFit",1]],"chooses":true}"#;

fn node(cpu: u32) -> String {
    format!(
        r#"{{"labels":{{}},"taints":[],"unschedulable":false,"allocatable":{{"cpu":{cpu},"pods":10}},"zone":["",""],"images":{{}}}}"#
    )
}

fn pod(cpu: u32, priority: i64) -> String {
    format!(
        r#"{{"namespace":"a","labels":{{}},"requests":{{"cpu":{cpu}}},"used":[{cpu},0],"priority":{priority}}}"#
    )
}

struct Cluster {
    table: Table,
    placer: Placer,
    wanted: Id,
}

type Found = (Vec<(Slot, Vec<String>)>, u32, Vec<(String, u32)>);

impl Cluster {
    /// Two nodes of 4, full of pods of priority 1; one of 3 and priority 5 is wanted.
    fn new() -> Self {
        let (mut table, placer) = (Table::new(), Placer::new(Profile::read(PROFILE).unwrap(), 1));
        for name in ["n1", "n2"] {
            table.set_node(name, node(4).as_bytes()).unwrap();
            for number in 0..2 {
                table.put_pod(&format!("a/{name}-{number}"), name, pod(2, 1).as_bytes()).unwrap();
            }
        }
        let wanted = table.template(pod(3, 5).as_bytes()).unwrap();
        let mut cluster = Self { table, placer, wanted };
        // what is seen once is not kept
        for _ in 0..3 {
            cluster.look().unwrap_err();
        }
        cluster
    }

    fn decided(&mut self, placer: &mut Placer, uid: &str) -> Result<Slot, Diagnosis> {
        placer.decide(&mut self.table, self.wanted, &Wish { uid, priority: 5, nominated: None })
    }

    fn rehearsed(&mut self, placer: &mut Placer, crowd: &[Slot]) -> Found {
        let wish = Wish { uid: "w", priority: 5, nominated: None };
        let plan = Rehearsal { start: 0, enough: 10, now: 100, all: true };
        let found = placer.rehearse(&mut self.table, self.wanted, &wish, crowd, &plan);
        let keys = |pods: &[u32]| pods.iter().map(|&one| self.table.key_of(one).to_owned()).collect();
        let candidates = found.candidates.iter().map(|one| (one.slot, keys(&one.victims))).collect();
        (candidates, found.refused, found.reasons.into_iter().collect())
    }

    /// What is found by who remembers, and by who does not; the node, or how many are refused and who would have to go.
    fn look(&mut self) -> Result<Slot, (usize, Found)> {
        let mut fresh = Placer::new(Profile::read(PROFILE).unwrap(), 1);
        let mut placer = std::mem::replace(&mut self.placer, Placer::new(Profile::read(PROFILE).unwrap(), 1));
        let (known, seen) = (self.decided(&mut placer, "w"), self.decided(&mut fresh, "w"));
        assert_eq!(known, seen);
        let outcome = known.map_err(|why| {
            let remembered = self.rehearsed(&mut placer, &why.crowded);
            assert_eq!(remembered, self.rehearsed(&mut fresh, &why.crowded));
            (why.nodes, remembered)
        });
        self.placer = placer;
        outcome
    }

    fn victims(&mut self) -> Vec<Vec<String>> {
        let (_, (candidates, ..)) = self.look().unwrap_err();
        candidates.into_iter().map(|one| one.1).collect()
    }
}

#[test]
fn a_pod_that_leaves_makes_room() {
    let mut cluster = Cluster::new();
    cluster.table.drop_pod("a/n2-0");
    assert_eq!(cluster.victims(), [vec!["a/n1-0", "a/n1-1"], vec!["a/n2-1"]]);
    cluster.table.drop_pod("a/n2-1");
    assert_eq!(cluster.look(), Ok(1));
}

#[test]
fn a_pod_that_comes_takes_it() {
    let mut cluster = Cluster::new();
    cluster.table.drop_pod("a/n1-0");
    cluster.table.drop_pod("a/n1-1");
    assert_eq!(cluster.look(), Ok(0));
    cluster.table.put_pod("a/high", "n1", pod(2, 9).as_bytes()).unwrap();
    assert_eq!(cluster.victims(), [vec!["a/n2-0", "a/n2-1"]], "the one on n1 matters more");
}

#[test]
fn a_node_that_changes_comes_or_goes_is_seen() {
    let mut cluster = Cluster::new();
    cluster.table.set_node("n1", node(2).as_bytes()).unwrap();
    assert_eq!(cluster.victims(), [vec!["a/n2-0", "a/n2-1"]], "n1 is too small for it");
    cluster.table.set_node("n1", node(8).as_bytes()).unwrap();
    assert_eq!(cluster.look(), Ok(0));
    cluster.table.remove_node("n1");
    assert_eq!(cluster.victims(), [vec!["a/n2-0", "a/n2-1"]]);
    cluster.table.set_node("n3", node(4).as_bytes()).unwrap();
    assert_eq!(cluster.look(), Ok(2));
}

#[test]
fn a_node_is_kept_free_for_another_one_as_long_as_that_is_nominated() {
    let mut cluster = Cluster::new();
    cluster.table.drop_pod("a/n2-0");
    cluster.table.drop_pod("a/n2-1");
    cluster.table.nominate("other", "n2", 5, pod(3, 5).as_bytes()).unwrap();
    assert_eq!(cluster.victims(), [vec!["a/n1-0", "a/n1-1"]]);
    cluster.table.withdraw("other");
    assert_eq!(cluster.look(), Ok(1));
}

#[test]
fn who_would_have_to_go_for_two_pods_does_not_go_for_one() {
    let mut cluster = Cluster::new();
    let both = [vec!["a/n1-0", "a/n1-1"], vec!["a/n2-0", "a/n2-1"]];
    assert_eq!(cluster.victims(), both);
    cluster.table.nominate("other", "n1", 5, pod(3, 5).as_bytes()).unwrap();
    assert_eq!(cluster.victims(), both[1..], "what goes from n1 makes room for the other one");
    cluster.table.withdraw("other");
    assert_eq!(cluster.victims(), both);
}

#[test]
fn who_has_started_before_others_counts_for_more() {
    let mut cluster = Cluster::new();
    cluster.table.put_pod("a/n1-0", "n1", pod(1, 1).as_bytes()).unwrap();
    cluster.table.put_pod("a/n1-1", "n1", pod(1, 1).as_bytes()).unwrap();
    assert_eq!(cluster.victims()[0], ["a/n1-1"]);
    cluster.table.set_started("a/n1-1", Some(7));
    assert_eq!(cluster.victims()[0], ["a/n1-0"]);
    // one that starts later than now counts as what it is
    cluster.table.set_started("a/n1-0", Some(1_000));
    assert_eq!(cluster.victims()[0], ["a/n1-0"]);
}
