from connector.cli.source import cache_file


def test_a_cache_files_name_is_short_and_plain_whatever_the_study_is_called() -> None:
    """The cache file's name is short and plain ASCII, whatever the study's key."""
    for study in ("K" * 260, "../../etc/passwd", "ü" * 100, ".", "a\\b\n"):
        name = cache_file(study, "imednet.events", "id")
        assert len(name.encode()) < 100
        assert name.removesuffix(".sqlite").replace("-", "").replace("_", "").isalnum()
        assert name.isascii()


def test_no_two_studies_topics_or_clusters_share_a_cache_file() -> None:
    """No two studies, topics or clusters share a cache file."""
    asked = [
        ("A", "events", "one"),
        ("A", "events", "two"),
        ("A", "test.events", "one"),
        ("B", "events", "one"),
        ("a/b", "events", "one"),
        ("a_b", "events", "one"),
        ("K" * 260, "events", "one"),
        ("K" * 261, "events", "one"),
    ]
    assert len({cache_file(*each) for each in asked}) == len(asked)
