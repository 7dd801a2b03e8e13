"""A distilled dataset for other people's trainers: one format a file, and what each loses."""
