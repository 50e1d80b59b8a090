//! `--help` of every command, and the example in it.

use crate::harness::Place;

/// The names in the list of commands of a help text.
fn commands(help: &str) -> Vec<String> {
    let list = help.split_once("Commands:\n").map_or("", |(_, list)| list);
    list.lines()
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

fn help_texts(place: &Place, path: &[String], found: &mut Vec<(String, String)>) {
    let args: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
    let text = place.run(&args).code(0).text().to_owned();
    for name in commands(&text) {
        let path: Vec<String> = path.iter().cloned().chain([name]).collect();
        help_texts(place, &path, found);
    }
    found.push((path.join(" "), text));
}

#[test]
fn every_help_text_has_one_example_that_works_as_pasted() {
    let place = Place::new();
    let mut found = Vec::new();
    help_texts(&place, &[], &mut found);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    for name in [
        "",
        "demo",
        "topic",
        "topic create",
        "topic list",
        "topic describe",
        "topic delete",
        "produce",
        "consume",
        "groups",
        "dead-letters",
        "dead-letters list",
        "dead-letters redrive",
        "producers",
        "why",
        "dump",
        "verify",
        "repair",
        "backup",
    ] {
        assert!(names.contains(&name), "{name:?} is missing in {names:?}");
    }
    // One after the other in one directory, as somebody would who tries them all.
    for (name, text) in &found {
        let examples: Vec<&str> = text.split("Example:\n").skip(1).collect();
        assert_eq!(examples.len(), 1, "oncelog {name} --help");
        let line = examples[0].trim();
        assert!(line.contains(&format!("oncelog {name}")), "{line}");
        assert!(!line.contains('\n'), "{line}");
        place.shell(line).code(0);
        // And alone.
        Place::new().shell(line).code(0);
    }
}
