//! Flags go before variables, variables before the file, the file before defaults; and what nobody knows is an error.

use super::shell::Shell;
use crate::stage::Backend;

#[test]
fn flags_go_before_variables_before_the_file_before_defaults() {
    let mut shell = Shell::new();
    let database = |shell: &Shell, flags: &[&str]| {
        let answer = shell.run(&[flags, &["task", "list"]].concat()).expect(3).stderr;
        answer.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(database(&shell, &[]), "reveille.db");
    shell.write("reveille.toml", "database_url = 'sqlite:file.db'");
    assert_eq!(database(&shell, &[]), "file.db");
    shell.set("REVEILLE_DATABASE_URL", "sqlite:variable.db");
    assert_eq!(database(&shell, &[]), "variable.db");
    assert_eq!(database(&shell, &["--database-url", "sqlite:flag.db"]), "flag.db");
}

#[test]
fn the_file_is_named_by_a_flag_or_a_variable() {
    let mut shell = Shell::new();
    shell.write("reveille.toml", "database_url = 'sqlite:file.db'");
    shell.write("other.toml", "database_url = 'sqlite:other.db'");
    shell.run(&["--config", "other.toml", "task", "list"]).refused(3, &["other.db"]);
    shell.set("REVEILLE_CONFIG", "other.toml");
    shell.run(&["task", "list"]).refused(3, &["other.db"]);
    shell.run(&["--config", "reveille.toml", "task", "list"]).refused(3, &["file.db"]);
    shell.run(&["--config", "none.toml", "kinds"]).refused(2, &["cannot read the configuration none.toml", "help: "]);
}

#[test]
fn an_unknown_key_in_the_file_is_refused_with_its_place_and_the_nearest() {
    let shell = Shell::new();
    shell.write("reveille.toml", "log = 'info'\n\n[triggerer]\ncapcity = 5\n");
    shell.run(&["kinds"]).refused(
        2,
        &["reveille.toml, line 4: unknown key \"triggerer.capcity\"", "help: did you mean triggerer.capacity?"],
    );
}

#[test]
fn an_unknown_variable_is_refused_with_the_nearest() {
    let mut shell = Shell::new();
    shell.set("REVEILLE_WORKER_CONCURENCY", "5");
    let words = ["unknown variable REVEILLE_WORKER_CONCURENCY", "did you mean REVEILLE_WORKER_CONCURRENCY?"];
    shell.run(&["kinds"]).refused(2, &words);
}

#[test]
fn a_value_that_does_not_fit_is_refused_with_its_place() {
    let mut shell = Shell::new();
    shell.write("reveille.toml", "[worker]\ndrain = 'soon'\n");
    shell.run(&["kinds"]).refused(2, &["reveille.toml, line 2: worker.drain", "\"soon\" is not a duration"]);
    shell.set("REVEILLE_TRIGGERER_CAPACITY", "many");
    shell.write("reveille.toml", "");
    shell.run(&["kinds"]).refused(2, &["REVEILLE_TRIGGERER_CAPACITY: "]);
}

#[test]
fn no_room_at_all_is_refused_wherever_it_is_asked_for() {
    let mut shell = Shell::migrated(Backend::Sqlite);
    shell.run(&["triggerer", "--capacity", "0"]).refused(2, &["triggerer.capacity is 0", "--capacity, to at least 1"]);
    shell
        .run(&["worker", "--concurrency", "0"])
        .refused(2, &["worker.concurrency is 0", "--concurrency, to at least 1"]);
    shell.write("reveille.toml", "triggerer.capacity = 0");
    shell.run(&["triggerer"]).refused(2, &["triggerer.capacity is 0"]);
    shell.run(&["dev"]).refused(2, &["triggerer.capacity is 0"]);
    shell.set("REVEILLE_WORKER_CONCURRENCY", "0");
    shell.run(&["worker", "--log", "debug"]).refused(2, &["worker.concurrency is 0"]);
}

#[test]
fn a_log_filter_that_does_not_read_is_refused() {
    Shell::new().run(&["--log", "reveille=loud", "kinds"]).refused(2, &["the log filter \"reveille=loud\"", "help: "]);
}
