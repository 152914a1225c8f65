use super::{fixture::Fixture, *};

#[test]
fn the_whole_report() {
    let fixture = Fixture::full();
    insta::assert_snapshot!(markdown(&fixture.inputs()).expect("a report"));
}

#[test]
fn the_recommended_configuration() {
    let fixture = Fixture::full();
    insta::assert_snapshot!(recommended_yaml(&fixture.inputs()).expect("a configuration"));
}
