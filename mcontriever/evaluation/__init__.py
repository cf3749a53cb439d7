"""From tasks to tables: MTEB, answer recall, language bias and the score table."""
