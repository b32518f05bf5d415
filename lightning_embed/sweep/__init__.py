"""Jobs of a sweep: their records, searches that go on, and the table at the end."""
