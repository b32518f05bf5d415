"""Jobs of a sweep: their records, resumed searches, and the table at the end."""
