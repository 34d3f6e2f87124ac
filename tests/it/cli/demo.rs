//! The demo is a test too: of each way that a task can wait and end, with other processes and real servers.

use super::shell::Shell;
use crate::stage::Backend;

on_both! {
    fn each_act_of_the_demo_ends_as_it_should_and_nothing_is_left_of_it(shell) {
        let before = shell.things();
        let report = shell.json(&["demo", "--sleepers", "0"]);
        for act in report["acts"].as_array().unwrap() {
            assert_eq!(act["wrong"], serde_json::Value::Null, "{act}");
        }
        let ended_by = |title: &str| {
            let acts = report["acts"].as_array().unwrap();
            let act = acts.iter().find(|act| act["title"].as_str().unwrap().contains(title)).expect(title);
            act["held_by"].as_array().unwrap().iter().rev().nth(1).unwrap().clone()
        };
        for title in ["a file", "a web server", "a row in a database", "a program"] {
            assert_eq!(ended_by(title), "triggerer", "{title}");
        }
        assert_eq!(shell.things(), before);
    }
}
